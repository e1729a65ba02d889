"""The owner's own programs, run when the interface has changed: `/etc/nmk/hooks/up` and the like.

One file an event, named for it: up, down, peer-added, peer-removed. Nothing that a controller
says is ever executed; what a hook is told of it comes in its environment. A hook can fail, hang
or be refused, which is said, and the mesh goes on. They run when the machine's lock has been given
back, so none keeps another run from its work, and in the order in which things happened. The agent
has a thread for them: whatever they do, and however often a controller has them called, it goes on.
"""

from __future__ import annotations

import os
import queue
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from nmk.agent.lock import after_release
from nmk.agent.membership import Membership
from nmk.agent.places import TURN, config_directory, make_runtime_directory
from nmk.core.hooks import Event, environment_of
from nmk.errors import CommandFailed, MachineUnfit, NmkError
from nmk.locks import line_up, take
from nmk.system.runner import Runner
from nmk.system.script import TimeIsUp, find_fault, run_script
from nmk.threads import start
from nmk.unforeseen import as_ours

SECONDS = 30.0  # that a hook may take
ALL_SECONDS = 60.0  # after which none more of those begins that one change calls
TURN_SECONDS = 30.0  # that hooks wait for those of the run before
MOST_WAITING = 8  # changes whose hooks the agent lets wait for those before
_MOST_RARE = 64  # the same of what no controller causes often: that an interface comes or goes
_Call = tuple[Path, Mapping[str, str]]
_PASSED_ON = (
    "NMK_STATE_DIR",
    "NMK_CONFIG_DIR",
    "NMK_RUNTIME_DIR",
)  # so that `nmk status` works in a hook


def call(events: Sequence[Event], me: Membership, names: Mapping[str, str], run: Runner) -> None:
    """Run the hooks for the events in their order. `names`: of peers, by their keys.

    One that is refused or hangs is not tried again for the events after. What a hook does calls
    none: it would wait for itself. Hold the lock; they run after it.
    """
    if "NMK_EVENT" in os.environ:
        return
    places = {k: os.environ[k] for k in _PASSED_ON if k in os.environ}
    view = me.known.view if me.known else None
    directory = hooks_directory()
    calls: list[_Call] = [
        (
            directory / event.name,
            {**places, **environment_of(event, me.network, me.interface, view, names)},
        )
        for event in events
        if os.path.lexists(directory / event.name)
    ]
    if calls:
        job = _Job(calls, None if run.dry else _line_up(), run)
        after_release(lambda: _threads[-1].add(job) if _threads else job.do())


@contextmanager
def in_background() -> Iterator[None]:
    """Have hooks run beside what is done inside; in the end the one that runs is waited for."""
    thread = _Thread()
    _threads.append(thread)
    try:
        yield
    finally:
        _threads.remove(thread)
        thread.close()


def hooks_directory() -> Path:
    """Where the owner puts hooks."""
    return config_directory().absolute() / "hooks"


def _line_up() -> tuple[int | None, int] | None:
    with suppress(OSError):  # nowhere to note whose turn it is
        return line_up(make_runtime_directory() / TURN)
    return None


@dataclass(frozen=True, slots=True)
class _Job:
    """The hooks of one change; `turn`: what is held until they have run, and waited for before."""

    calls: Sequence[_Call]
    turn: tuple[int | None, int] | None
    run: Runner

    @property
    def is_rare(self) -> bool:
        return any(program.name in {"up", "down"} for program, _ in self.calls)

    def do(self, is_over: Callable[[], bool] = lambda: False) -> None:
        """Call them in their order, within their time and until it `is_over`."""
        before, _ = self.turn or (None, None)
        try:
            if before is not None and not take(before, TURN_SECONDS):
                self.run.warn(f"hooks of another run go on for longer than {TURN_SECONDS:.0f} s")
            deadline = time.monotonic() + ALL_SECONDS
            given_up = set()
            for number, (program, variables) in enumerate(self.calls):
                if is_over() or time.monotonic() >= deadline:
                    reason = "nmk agent ends" if is_over() else f"{ALL_SECONDS:.0f} s are over"
                    self._leave_out(len(self.calls) - number, reason)
                    break
                if program not in given_up and not _call(program, variables, self.run):
                    given_up.add(program)
        finally:
            self._end()

    def drop(self, reason: str) -> None:
        """Call none of them."""
        self._leave_out(len(self.calls), reason)
        self._end()

    def _leave_out(self, count: int, reason: str) -> None:
        self.run.warn(f"hooks: {reason}; calls left out: {count}")

    def _end(self) -> None:
        for handle in self.turn or ():
            if handle is not None:
                os.close(handle)


class _Thread:
    """Does jobs one after the other, in a thread of its own, made with the first of them."""

    def __init__(self) -> None:
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._is_over = threading.Event()
        self._has_ended = threading.Event()
        self._has_ended.set()

    def add(self, job: _Job) -> None:
        """Do it after those before; not at all where too many wait, or there can be no thread."""
        if self._jobs.qsize() >= (_MOST_RARE if job.is_rare else MOST_WAITING):
            job.drop("those of earlier changes still run")
            return
        if self._has_ended.is_set():
            self._has_ended.clear()
            try:
                start(self._work)
            except MachineUnfit as error:
                self._has_ended.set()
                job.drop(error.message)
                return
        self._jobs.put(job)

    def close(self) -> None:
        """Wait for the hook that runs; of the others is said that they do not."""
        self._is_over.set()
        self._jobs.put(None)
        self._has_ended.wait(TURN_SECONDS + ALL_SECONDS)

    def _work(self) -> None:
        try:
            while (job := self._jobs.get()) is not None:
                try:
                    with as_ours():
                        job.do(self._is_over.is_set)
                except NmkError as error:
                    job.run.warn(f"hooks: {error.message}")
        finally:
            self._has_ended.set()


_threads: list[_Thread] = []  # the one of `in_background`


def _call(program: Path, variables: Mapping[str, str], run: Runner) -> bool:
    """Run one hook; whether it may be run again."""
    name = f"hook {program.name}"
    try:
        fault = find_fault(program)
        reason = fault and fault.reason
    except OSError as error:
        reason = f"{program}: {error.strerror}"
    if reason:
        run.warn(f"{name} is not run: {reason}")
        return False
    more = variables.get("NMK_MORE")
    whom = f"{more} more" if more else variables.get("NMK_PEER", "")
    if more:
        run.warn(f"{name}: {more} more peers are one call")
    run.show(f"[#] {program} {whom}".rstrip())
    if run.dry:
        return True
    try:
        run_script(program, variables, SECONDS, lambda line: run.warn(f"{name}: {line}"))
    except CommandFailed as error:
        run.warn(f"{name}: {error.message}")
        return not isinstance(error, TimeIsUp)
    except OSError as error:  # of files or memory; the thread goes on
        run.warn(f"{name}: it cannot be run: {error.strerror}")
    return True
