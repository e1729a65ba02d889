"""A moment in which the machine has no memory, threads or descriptors: the agent outlives it."""

from __future__ import annotations

import os
import resource
import socket
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from errno import EMFILE, ENFILE, ENOENT, ENOMEM
from math import inf
from pathlib import Path

import pytest

from nmk import bootstrap, threads
from nmk.agent import daemon, hooks, rounds, state
from nmk.agent.resolver import resolve
from nmk.cli import output
from nmk.core.hooks import Event
from nmk.errors import MachineUnfit
from nmk.system.runner import Runner
from tests.agent.memberships import joined, peer
from tests.agent.test_hooks import Told, told
from tests.hostile.door import Door
from tests.lab import poll

__all__ = ["told"]
NONE = "no more threads can be started"


def none_is_to_be_had(*_: object) -> None:
    raise RuntimeError("can't start new thread")


def dies_at_once(*_: object) -> None:
    """As one whose first frame finds no memory."""


@pytest.fixture(params=[none_is_to_be_had, dies_at_once])
def threadless(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[[], None]]:
    """No thread can be had, until what this gives is called."""
    with monkeypatch.context() as patch:
        patch.setattr(threads, "_SECONDS", 0.05)
        patch.setattr(threads, "start_new_thread", request.param)
        yield patch.undo


@contextmanager
def member() -> Iterator[Door]:
    """A machine in a network whose controller answers, with nonsense."""
    with Door(lambda _: b"no HTTP") as door:
        state.save(replace(joined(peer(2)), interface="none-a", urls=(door.url,), down=True))
        yield door


@contextmanager
def without_descriptors() -> Iterator[None]:
    """Not one file more can be opened."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    free = os.dup(0)
    os.close(free)
    resource.setrlimit(resource.RLIMIT_NOFILE, (free, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.usefixtures("state_dir")
def test_an_agent_that_gets_no_thread_says_so_and_asks_later(
    threadless: Callable[[], None],
) -> None:
    said = list[str]()
    agent = daemon.Agent(Runner(), said.append)
    with member() as door:
        for _ in range(2):
            agent._check_in_due()
            agent._finish_answered()
            assert time.monotonic() < agent._turns["home"].due < time.monotonic() + 3600
            agent._turns["home"].due = 0
        assert said == [f"home: {NONE}"]
        assert not door.asked
        threadless()
        assert_asked(agent, door)


@pytest.mark.usefixtures("state_dir")
def test_a_thread_that_never_comes_back_is_waited_for_no_longer(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    said, asking = list[str](), list[Callable[[], object]]()
    monkeypatch.setattr(rounds, "start", asking.append)
    agent = daemon.Agent(Runner(), said.append)
    with member():
        agent._check_in_due()
        turn = agent._turns["home"]
        assert turn.asking is not None
        assert turn.lost <= time.monotonic() + rounds.LONGEST
        turn.lost = 0
        agent._check_in_due()
        agent._finish_answered()
        assert turn.asking is None
        assert said == ["home: asking the controller did not come to its end in 90 s"]
        turn.due = 0
        agent._check_in_due()
        assert len(asking) == 2
        first, second = asking
        first()  # too late: the second is on its way
        agent._finish_answered()
        assert turn.asking is not None
        second()
        agent._finish_answered()
        assert turn.asking is None


@pytest.mark.usefixtures("state_dir")
def test_a_run_of_check_ins_outlives_a_thread_that_does_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(rounds, "LONGEST", 0.1)
    monkeypatch.setattr(rounds, "start", lambda _: None)
    with member():
        [(name, outcome)] = rounds.check_in_all(["home"], Runner, in_turn=False)
    assert (name, type(outcome)) == ("home", MachineUnfit)


def test_hooks_without_a_thread_are_left_out_and_the_next_ones_run(
    told: Told, threadless: Callable[[], None]
) -> None:
    told.hook("up")
    with hooks.in_background():
        told.call(Event("up"))
        assert told.said == [f"hooks: {NONE}; calls left out: 1"]
        threadless()
        told.call(Event("up"))
        poll(lambda: told.events == ["up "], 10, "the hook")


def test_a_name_that_no_thread_looks_up_is_looked_up_later(
    threadless: Callable[[], None],
) -> None:
    for _ in range(2):
        with pytest.raises(OSError, match=NONE):
            resolve("localhost", 80, socket.SOCK_STREAM, 10)
    threadless()
    assert resolve("localhost", 80, socket.SOCK_STREAM, 10)


@pytest.mark.usefixtures("state_dir")
def test_an_agent_without_descriptors_goes_on() -> None:
    """It says it once, and when they are back so is all that it does."""
    said = list[str]()
    agent = daemon.Agent(Runner(), said.append)
    turn = agent._turns["home"] = daemon._Turn(interface="none-a")
    with member() as door:
        with without_descriptors():
            for _ in range(3):
                turn.due = turn.look = turn.watch = 0
                agent._check_in_due()
                assert time.monotonic() < turn.due < time.monotonic() + 3600
                assert turn.look < time.monotonic() + 60, "it is mended soon"
        assert {line.partition(": ")[0] for line in said} == {"home"}
        assert len(said) == len(set(said))
        assert any("no more files can be opened" in line for line in said)
        turn.due = 0
        assert_asked(agent, door)


def test_what_comes_and_goes_with_each_round_is_said_once_a_minute(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    said = list[str]()
    agent = daemon.Agent(Runner(), said.append)
    for quiet, lines in ((60, 1), (0, 11)):
        monkeypatch.setattr(daemon, "QUIET", quiet)
        for _ in range(10):
            agent._lacking = ""  # a round that was well
            agent._begin_anew(MachineUnfit("no memory"))
        assert said == ["no memory; tried again until it is over"] * lines


def test_that_nothing_can_be_opened_is_said_all_the_same(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Hints name nmk as it is started here, which takes a look at files."""

    def look() -> str:
        return Path("/proc/self/comm").read_text()

    monkeypatch.setattr(output, "_called", (look, {"doctor"}))
    with without_descriptors():
        output.say("see nmk doctor")
        output.fail("machine-unfit", "no more files can be opened", "nmk doctor")
    told = "see nmk doctor\nnmk: no more files can be opened\n  try: nmk doctor\n"
    assert capsys.readouterr().err == told


@pytest.mark.parametrize("number", [EMFILE, ENFILE, ENOMEM])
def test_a_module_that_cannot_be_opened_now_is_no_damaged_one(
    number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """For a damaged one nmk starts anew, where it would find no more descriptors than before."""
    monkeypatch.setattr(bootstrap, "_running", ["/var/cache/nmk/x"])
    assert not bootstrap.is_damage(OSError(number, "lacks", "/var/cache/nmk/x/nmk/tools.py"))
    assert bootstrap.is_damage(OSError(ENOENT, "gone", "/var/cache/nmk/x/nmk/tools.py"))


def test_what_is_not_in_the_file_is_no_damage(monkeypatch: pytest.MonkeyPatch) -> None:
    """A mistake, or a Python that is not whole: unpacking the file anew mends neither."""

    def raised(statement: str) -> BaseException:
        with pytest.raises(Exception) as caught:  # noqa: PT011
            exec(statement, {})
        return caught.value

    monkeypatch.setattr(bootstrap, "_running", ["/var/cache/nmk/x"])
    monkeypatch.setitem(sys.modules, "sqlite3", None)
    for statement in ("import sqlite3", "from http import nothing"):
        with pytest.raises(bootstrap.CannotStart, match=r"is not whole, it has no (sqlite3|http) "):
            bootstrap.start_again(raised(statement))
    for statement in ("import os; os.nothing", "raise ImportError"):
        bootstrap.start_again(raised(statement))
    for statement in ("import nmk.nothing", "from nmk import nothing", "import nmk; nmk.nothing"):
        assert bootstrap.is_damage(raised(statement))


@pytest.mark.usefixtures("state_dir")
def test_a_round_that_finds_no_memory_is_not_the_last(monkeypatch: pytest.MonkeyPatch) -> None:
    said, waits, rests = list[str](), list[bool](), list[float]()

    def say(line: str) -> None:
        said.append(line)
        if len(waits) == 1:
            raise OSError(EMFILE, "Too many open files")

    agent = daemon.Agent(Runner(), say)

    def wait(*_: object) -> None:
        waits.append(True)
        turn = agent._turns["home"]
        assert turn.due <= time.monotonic() + daemon.LONGEST_SLEEP or len(waits) == 1
        turn.due = turn.look = inf
        turn.asking = None
        agent._stopping = len(waits) == 3
        raise MemoryError

    monkeypatch.setattr(agent, "_wait", wait)
    monkeypatch.setattr(daemon, "sleep", rests.append)
    with member():
        agent._loop(None, None, None)  # type: ignore[arg-type]
    assert len(rests) == 4, "one for a word that could not be said"
    assert said.count("no memory is left; tried again until it is over") == 1


def assert_asked(agent: daemon.Agent, door: Door) -> None:
    """It asks the controller, and comes to its end with that."""
    agent._check_in_due()

    def is_over() -> bool:
        agent._finish_answered()
        return all(turn.asking is None for turn in agent._turns.values())

    poll(is_over, 10, "answer")
    assert door.asked
