"""Two runs of nmk never change one machine at the same time.

The lock is held while the machine is looked at and changed, never while the network is waited
for: nobody else's silence stops a command here.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from nmk.agent.places import close_to_others, state_directory
from nmk.errors import Locked, NotJoined, StateUnwritable
from nmk.locks import Holder, holder, holder_of, is_at, open_lock, take
from nmk.system.runner import Runner

LOCK = "lock"
PERSON_SECONDS = 10.0  # that a person's command waits for another run
RETURN_SECONDS = 60.0  # that a run waits which comes back with an answer: it has begun already
_SAID_AFTER = 1.0  # seconds; shorter waits are not worth a word
_LOOK = 0.05  # seconds between two looks at who holds it

Say = Callable[[str], None]
_is_held: list[bool] = []
_waiting: list[Callable[[], None]] = []  # for the lock to be given back


@contextmanager
def machine_lock(run: Runner, seconds: float = PERSON_SECONDS) -> Iterator[None]:
    """The lock of this machine's state, as a person's command takes it; as `locked`.

    Not of a dry run, which finds whole files all the same.
    """
    with _then_what_waits():
        if run.dry:
            yield
            return
        with locked(state_directory(), seconds, run.note):
            _is_held.append(True)
            try:
                yield
            finally:
                _is_held.pop()


def after_release(action: Callable[[], None]) -> None:
    """Do it when this process has given the machine's lock back; at once where it has none."""
    if _is_held:
        _waiting.append(action)
    else:
        action()


@contextmanager
def _then_what_waits() -> Iterator[None]:
    try:
        yield
    finally:
        while _waiting:
            _waiting.pop(0)()


@contextmanager
def locked(directory: Path, seconds: float = 0.0, say: Say | None = None) -> Iterator[None]:
    """Hold the state directory's lock; NotJoined where there is no such directory.

    Raises Locked, which names the holder, when another run has it for longer than `seconds`;
    `say` is told that this one waits. The file goes with the last network: whoever waits on it
    then takes the one that is in its place.
    """
    handle = _take(directory, seconds, say)
    try:
        yield
    finally:
        with suppress(OSError):
            if is_at(handle, directory / LOCK) and not any(directory.glob("*.json")):
                (directory / LOCK).unlink()
                directory.rmdir()  # unless a controller's is in there
        os.close(handle)


def _take(directory: Path, seconds: float, say: Say | None) -> int:
    deadline = time.monotonic() + seconds
    while True:
        handle = _open(directory)
        try:
            first = min(_SAID_AFTER, seconds)
            taken = take(handle, first)
            if not taken and say and seconds > first:
                say(f"another run of nmk is at work{holder(handle) or ''}: waiting for it")
                say = None
            taken = taken or take(handle, deadline - time.monotonic())
        except OSError as error:
            os.close(handle)
            raise StateUnwritable(f"{directory} cannot be locked: {error.strerror}") from None
        if not taken:
            who = holder(handle)
            os.close(handle)
            raise _locked(directory, who)
        if is_at(handle, directory / LOCK) or is_at(handle, directory):
            return handle
        os.close(handle)  # removed by another run since we opened it


def find_stuck() -> Locked | None:
    """What keeps everybody from changing this machine: a run that has the lock for longer.

    Takes no lock, so that it is in nobody's way, and looks for a second at most.
    """
    directory = state_directory()
    first = _holder_in(directory)
    deadline = time.monotonic() + _SAID_AFTER
    while first and time.monotonic() < deadline:
        time.sleep(_LOOK)
        if (now := _holder_in(directory)) is None or now.process != first.process:
            return None
        first = now
    return _locked(directory, first) if first else None


def _holder_in(directory: Path) -> Holder | None:
    return holder_of(directory / LOCK) or holder_of(directory)


def _locked(directory: Path, who: Holder | None) -> Locked:
    return Locked(
        f"another run of nmk is at work in {directory}{who or ''}", who.hint if who else None
    )


def _open(directory: Path) -> int:
    """The lock file; where none can be made (a full disk, a read-only one), the directory."""
    try:
        close_to_others(directory)
        with suppress(OSError):
            return open_lock(directory / LOCK)
        return os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except FileNotFoundError as error:
        raise NotJoined(f"there is no state in {directory}: {error.strerror}") from None
    except OSError as error:
        raise StateUnwritable(f"{directory} cannot be locked: {error.strerror}") from None
