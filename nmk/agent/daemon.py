"""`nmk agent`: check-ins at the hinted interval, at once when the machine's addresses change.

One loop does everything, but for a thread a network that does nothing but wait for its controller,
and one for its owner's hooks. Whatever ends it leaves the tunnels as they are.
"""

from __future__ import annotations

import random
import select
import signal
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from math import inf
from queue import Empty, SimpleQueue
from time import sleep

from nmk.agent import hooks, last_check_in, state
from nmk.agent.interface import complain
from nmk.agent.membership import Membership
from nmk.agent.mend import mend_network, shut_network
from nmk.agent.rounds import LONGEST, Finish, ask_aside, give_up
from nmk.agent.settings import local_settings
from nmk.agent.tick import (
    RESTORE,
    Asking,
    begin,
    newest_handshake,
    put_right,
    watch_gateways,
)
from nmk.agent.wake import WakeUps
from nmk.core.problems import problem_of
from nmk.core.route_table import table_of
from nmk.core.ruleset import table_name
from nmk.core.schedule import QUARREL_OVER, Damper, is_back, next_delay, next_look
from nmk.core.settings import NETWORK_SETTINGS
from nmk.core.tunnel import MARK
from nmk.errors import InternalError, Locked, NmkError, StateDamaged
from nmk.system.facts import outward_addresses, own_addresses
from nmk.system.monitor import Monitor, News
from nmk.system.notify import notify, watchdog_seconds
from nmk.system.runner import Runner
from nmk.unforeseen import as_ours, ours

LONGEST_SLEEP = 30.0  # seconds; so soon is a network noticed that has been joined since
WATCH = 5.0  # between two looks at gateways that stand in for one another
BUSY = 2.0  # seconds to wait for another run of nmk
_QUARREL = 3  # changes by others in a row that are no chance
REST = 1.0  # seconds after a round that could not be ended
HELD_LONG = 60.0  # seconds; a lock that is held for longer is told of
QUIET = 60.0  # seconds between two lines of what comes and goes with each round

Say = Callable[[str], None]


@dataclass(slots=True)
class _Turn:
    """When a network's next check-in is due (monotonic), how the last ones went, its interface.

    `watch`: when to look at its gateways again, and after a failure at its handshakes. `look`: when
    to look whether others have changed what is ours, `looked`: when that was done last, `quarrels`:
    how often in a row something was `amiss`, and when the last time. `said`: what was said to be
    wrong, by what was tried. `heard`: the newest handshake when a check-in failed last, in seconds
    since 1970. `locked`: since when another run of nmk has been
    at work. `around`: the machine's addresses at the last check-in. `asking`: its controller has
    been asked, and the answer is not there yet, which is waited for until `lost`.
    """

    due: float = 0.0
    watch: float = inf
    look: float = inf
    looked: float = -inf
    quarrels: int = 0
    amiss: float = -inf
    failures: int = 0
    said: dict[str, str] = field(default_factory=dict)
    interface: str = ""
    heard: float = 0.0
    locked: float = inf
    around: tuple[str, ...] = ()
    asking: Asking | None = None
    lost: float = inf


class Agent:
    """Keeps every network that this machine is in up to date, until a signal stops it."""

    def __init__(self, run: Runner, say: Say) -> None:
        self._run = run
        self._say = say
        self._turns: dict[str, _Turn] = {}
        self._stopping = False
        self._damper = Damper()
        self._changed = inf
        self._answers = SimpleQueue[tuple[str, Asking, Finish]]()
        self._is_new = True
        self._lacking = ""
        self._lacked = -inf  # when that was said last
        self._wake: socket.socket | None = None  # what wakes the loop when an answer is there

    def serve(self) -> None:
        """Run until SIGTERM or SIGINT; SIGHUP checks in at once."""
        monitor = Monitor(self._interfaces, self._tables, table_of(0))
        calls = WakeUps()
        try:
            with self._signals() as wake, hooks.in_background():
                for network in state.networks():
                    self._try(network, "restore", lambda n: shut_network(n, self._run))
                for network in state.networks():
                    self._try(network, "restore", lambda n: put_right(n, self._run, RESTORE))
                notify("READY=1", "STATUS=keeping this machine in its mesh")
                self._loop(monitor, calls, wake)
        finally:
            notify("STOPPING=1")
            monitor.close()
            calls.close()

    def _loop(self, monitor: Monitor, calls: WakeUps, wake: socket.socket) -> None:
        while not self._stopping:
            try:
                with as_ours():
                    self._check_in_due()
                    self._greet()
                    self._wait(monitor, calls, wake)
                    self._lacking = ""
            except InternalError:
                raise
            except (NmkError, MemoryError) as error:
                with suppress(Exception):  # of what is said, too
                    self._begin_anew(error if isinstance(error, NmkError) else ours(error))
                sleep(REST)

    def _greet(self) -> None:
        if self._is_new and not any(turn.asking for turn in self._turns.values()):
            self._is_new = False
            self._say(f"keeping this machine in: {', '.join(self._turns) or 'no network yet'}")

    def _wait(self, monitor: Monitor, calls: WakeUps, wake: socket.socket) -> None:
        watched: list[socket.socket | Monitor | WakeUps] = [wake, calls, monitor]
        readable, _, _ = select.select(watched, [], [], self._sleep())
        if wake in readable:
            wake.recv(64)
        self._finish_answered()
        if calls in readable:
            self._follow_people(calls.read())
        if monitor in readable:
            self._take_in(monitor.read())
        if self._changed <= time.monotonic():
            self._follow_machine()

    def _begin_anew(self, error: NmkError) -> None:
        """This machine lacks memory or files: what was under way is not over, and all is due."""
        now = time.monotonic()
        for turn in self._turns.values():
            turn.due = min(turn.due, now + LONGEST_SLEEP)
            turn.look, turn.watch = min(turn.look, now), min(turn.watch, now)
        if self._lacking != error.code and now - self._lacked >= QUIET:
            self._lacking, self._lacked = error.code, now
            self._say(f"{error.message}; tried again until it is over")

    def _take_in(self, news: News) -> None:
        now = time.monotonic()
        if news.theirs:
            self._changed = min(self._changed, self._damper.due(now))
        for turn in self._turns.values():
            if news.ours:
                turn.look = min(turn.look, next_look(now, turn.looked, turn.quarrels))

    def _follow_people(self, networks: set[str]) -> None:
        """Somebody has done something to these: what was wrong may be over."""
        for network in networks & self._turns.keys():
            turn = self._turns[network]
            if turn.failures:
                turn.failures, turn.due = 0, 0.0
            turn.watch = 0.0

    def _follow_machine(self) -> None:
        """Its addresses or routes have changed. The controller is told what it can know.

        That is from where this machine comes; where it is the same, all is put right from disk.
        """
        self._changed = inf
        self._damper = self._damper.after(time.monotonic())
        for network, turn in self._turns.items():
            if turn.failures or turn.around != _around(turn.interface):
                turn.failures, turn.due = 0, 0.0
            elif isinstance(
                self._try(network, "change", lambda n: put_right(n, self._run)), Locked
            ):
                turn.look = min(turn.look, time.monotonic() + BUSY)

    def _check_in_due(self) -> None:
        notify("WATCHDOG=1")
        with suppress(StateDamaged):  # each network says it for itself
            self._turns = {n: self._turns.get(n, _Turn()) for n in state.networks()}
        for network, turn in self._turns.items():
            if turn.look <= time.monotonic() and not self._stopping:
                self._look_at_ours(network, turn)
            if turn.asking and turn.lost <= time.monotonic():
                self._deliver(network, turn.asking, give_up(turn.asking, self._run))
            if turn.due <= time.monotonic() and not turn.asking and not self._stopping:
                self._check_in(network, turn)
            if turn.watch <= time.monotonic() and not self._stopping:
                self._watch(network, turn)

    def _check_in(self, network: str, turn: _Turn) -> None:
        """Begin it; it ends in `_finish_answered`, or here and now where it cannot begin."""
        notify("WATCHDOG=1")
        turn.due = inf  # until what is told is over, but for what happens meanwhile
        try:
            with as_ours():
                turn.around = _around(turn.interface)
                asking = begin(network, self._run)
        except NmkError as error:
            self._finish(network, turn, partial(_refuse, error))
            return
        turn.asking, turn.lost = asking, time.monotonic() + LONGEST
        ask_aside(asking, self._run, partial(self._deliver, network, asking))

    def _deliver(self, network: str, asking: Asking, finish: Finish) -> None:
        """In a thread of its own: nothing here but a word to the loop."""
        self._answers.put((network, asking, finish))
        if wake := self._wake:
            with suppress(OSError):  # full: it wakes as it is; or closed: nobody waits any more
                wake.send(b"\0")

    def _finish_answered(self) -> None:
        with suppress(Empty):
            while not self._stopping:
                network, asking, finish = self._answers.get_nowait()
                turn = self._turns.get(network)
                if turn and turn.asking is asking:
                    turn.asking = None
                    self._finish(network, turn, finish)

    def _finish(self, network: str, turn: _Turn, finish: Finish) -> None:
        notify("WATCHDOG=1")
        turn.watch = 0.0  # of gateways there may be others now
        found: list[Membership] = []
        error = self._try(network, "check-in", lambda _: found.append(finish()))
        if found:  # what could not be done here is no reason to come more rarely
            self._try(network, "apply", lambda _: complain(found[0]))
        interval = self._look_up(network, turn)
        if isinstance(error, Locked):
            turn.due = min(turn.due, time.monotonic() + BUSY)
            return
        turn.failures = turn.failures + 1 if error else 0
        if error:
            turn.heard = self._heard(network)
        delay = next_delay(interval, turn.failures, random.random())  # noqa: S311  # jitter
        turn.due = min(turn.due, time.monotonic() + delay)

    def _look_at_ours(self, network: str, turn: _Turn) -> None:
        now = time.monotonic()
        if now - turn.amiss > QUARREL_OVER:
            turn.quarrels = 0
        turn.look, turn.looked = inf, now

        def mend(name: str) -> None:
            if mend_network(name, self._run):
                turn.quarrels, turn.amiss = turn.quarrels + 1, now
                if turn.quarrels == 1:
                    self._say(f"{name}: another program changed what is nmk's, put right")
                if turn.quarrels == _QUARREL:
                    self._say(f"{name}: another program keeps changing it; see nmk doctor")

        if error := self._try(network, "mend", mend):
            turn.look = now + (BUSY if isinstance(error, Locked) else LONGEST_SLEEP)

    def _watch(self, network: str, turn: _Turn) -> None:
        turn.watch = inf

        def watch(name: str) -> None:
            if turn.failures and is_back(turn.heard, self._heard(name)):
                turn.failures, turn.due = 0, 0.0
            if watch_gateways(name, self._run) or turn.failures:
                turn.watch = time.monotonic() + WATCH

        if self._try(network, "watch", watch) is not None:
            turn.watch = time.monotonic() + WATCH

    def _tell_of_lock(self, network: str, turn: _Turn, error: Locked) -> None:
        """Say once, and show, that another run has been at work for long."""
        now = time.monotonic()
        turn.locked = min(turn.locked, now)
        if now - turn.locked >= HELD_LONG and turn.said.get("lock") != error.code:
            turn.said["lock"] = error.code
            self._say(f"{network}: {error.message}, for {HELD_LONG:.0f} s and longer")
            last_check_in.kept_out(network, problem_of(error))

    def _forget_lock(self, turn: _Turn, what: str) -> bool:
        """The lock could be taken; whether it had been told that it could not."""
        turn.locked = inf
        if turn.said.pop("lock", "") == "":
            return False
        if what != "check-in":
            turn.due = 0.0  # which notes that it is over
        return True

    def _heard(self, network: str) -> float:
        with suppress(NmkError), as_ours():
            return newest_handshake(network, self._run)
        return 0.0

    def _try(self, network: str, what: str, action: Callable[[str], object]) -> NmkError | None:
        """Do it; of `what`, a kind of failure is said once, until it is another one or over."""
        turn = self._turns.setdefault(network, _Turn())
        try:
            with as_ours():  # what is wrong with one network ends no other
                action(network)
        except NmkError as error:
            if isinstance(error, Locked):
                self._tell_of_lock(network, turn, error)
                return error
            self._forget_lock(turn, what)
            if error.code != turn.said.get(what):
                self._say(f"{network}: {error.message}")
                turn.said[what] = error.code
            return error
        was_locked = self._forget_lock(turn, what)
        if turn.said.pop(what, None) or was_locked:
            self._say(f"{network}: well again")
        return None

    def _look_up(self, network: str, turn: _Turn) -> int:
        """The seconds between the network's check-ins; remembers its interface."""
        default = NETWORK_SETTINGS["interval"].default
        with suppress(NmkError), as_ours():
            me = state.load(network)
            turn.interface = me.interface
            told = me.known.view.settings if me.known else {}
            return {**told, **local_settings(network, me)}.get("interval", default)
        return default

    def _sleep(self) -> float:
        longest = min(LONGEST_SLEEP, (watchdog_seconds() or LONGEST_SLEEP * 2) / 2)
        turns = self._turns.values()
        dues = [min(t.lost if t.asking else t.due, t.watch, t.look) for t in turns]
        due = min((*dues, self._changed), default=time.monotonic() + longest)
        return min(max(due - time.monotonic(), 0), longest)

    def _interfaces(self) -> set[str]:
        return {turn.interface for turn in self._turns.values()}

    def _tables(self) -> set[str]:
        return {table_name(network) for network in self._turns}

    @contextmanager
    def _signals(self) -> Iterator[socket.socket]:
        """Signals as something to select on: PEP 475 would go on sleeping otherwise."""
        wake, waker = socket.socketpair()
        wake.setblocking(False)
        waker.setblocking(False)

        def stop(_number: int, _frame: object) -> None:
            self._stopping = True

        def reload(_number: int, _frame: object) -> None:
            for turn in self._turns.values():
                turn.due = 0.0

        handlers = {signal.SIGTERM: stop, signal.SIGINT: stop, signal.SIGHUP: reload}
        before = {number: signal.signal(number, h) for number, h in handlers.items()}
        previous, self._wake = signal.set_wakeup_fd(waker.fileno()), waker
        try:
            yield wake
        finally:
            signal.set_wakeup_fd(previous)
            self._wake = None
            for number, handler in before.items():
                signal.signal(number, handler)
            wake.close()
            waker.close()


def _refuse(error: Exception) -> Membership:
    raise error


def _around(interface: str) -> tuple[str, ...]:
    """What a controller can know of where this machine is: its addresses, and its ways out."""
    return (*own_addresses(leave_out=[interface]), *outward_addresses(MARK))
