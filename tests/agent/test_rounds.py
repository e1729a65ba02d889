"""Runs of `nmk checkin` by cron, which come every minute whatever became of the one before."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from nmk import bootstrap, unforeseen
from nmk.agent import patience, rounds, state, tick
from nmk.agent.places import make_runtime_directory, runtime_directory
from nmk.agent.rounds import check_in_all
from nmk.cli import machine
from nmk.errors import EXIT_TEMPORARY, BadReply, CheckInUnderWay, NmkError, Unreachable
from nmk.locks import passing_lock
from nmk.system.runner import Runner
from tests.agent.memberships import joined
from tests.agent.test_bad_day import Noting, guarded
from tests.hostile.door import Door
from tests.lab import poll


@contextmanager
def hanging() -> Iterator[Door]:
    """A controller that takes a request and says nothing."""
    with Door(lambda _: b"") as door:
        door.script = lambda _: door.silence
        yield door


@contextmanager
def running(*networks: str, run: Runner) -> Iterator[list[tuple[str, object]]]:
    """A run by cron, in a thread; what came of it so far."""
    outcomes: list[tuple[str, object]] = []

    def check_in() -> None:
        outcomes.extend(check_in_all(networks, lambda: run, in_turn=True))

    thread = threading.Thread(target=check_in)
    thread.start()
    yield outcomes
    thread.join()


def by_cron(monkeypatch: pytest.MonkeyPatch, run: Runner, *options: str) -> Result:
    monkeypatch.setattr(machine, "check_root", lambda _: None)
    monkeypatch.setattr(machine, "runner", lambda *_, **__: run)
    return CliRunner().invoke(machine.checkin, ["--quiet", *options], standalone_mode=False)


@pytest.mark.usefixtures("state_dir")
def test_a_run_waits_for_all_controllers_at_the_same_time() -> None:
    with hanging() as one, hanging() as other:
        for name, door in (("a", one), ("b", other)):
            me = replace(joined(), network=name, interface=f"none-{name}", urls=(door.url,))
            state.save(replace(me, down=True))
        with running("a", "b", run=Noting()) as outcomes:
            poll(lambda: one.asked and other.asked, 5, "question to both")
            assert not outcomes
            one.over.set()
            other.over.set()
        failed = {name for name, outcome in outcomes if isinstance(outcome, Unreachable)}
        assert failed == {"a", "b"}


@pytest.mark.usefixtures("state_dir")
def test_a_controller_that_hangs_is_asked_by_one_run_at_a_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The next one mends what needs no controller, the kill switch above all, and is silent."""
    monkeypatch.setattr("nmk.agent.surroundings.has_tool", lambda _: True)
    monkeypatch.setattr("nmk.system.filter.has_tool", lambda _: True)
    monkeypatch.setattr("nmk.system.sysctl.write", lambda *_: None)
    run = Noting()
    with hanging() as door:
        state.save(replace(guarded(as_read={}), urls=(door.url,)))
        with running("home", run=run):
            poll(lambda: door.asked, 5, "question")
            assert run.filter
            run.filter = ""  # another program's doing
            done = by_cron(monkeypatch, run)
            assert (done.return_value, done.output) == (EXIT_TEMPORARY, "")
            assert run.filter
            assert len(door.asked) == 1
            assert "an earlier check-in" in by_cron(monkeypatch, run, "--verbose").output
            assert len(door.asked) == 1
            door.over.set()
    assert not [p for p in runtime_directory().iterdir() if p.suffix == ".checkin"]


@pytest.mark.usefixtures("state_dir")
def test_a_run_that_does_not_end_is_told_of_once(monkeypatch: pytest.MonkeyPatch) -> None:
    state.save(replace(joined(), down=True))
    with passing_lock(make_runtime_directory() / "home.checkin", 0):
        results = [by_cron(monkeypatch, Noting()) for _ in range(patience.SILENT_RUNS + 3)]
    assert {done.return_value for done in results} == {EXIT_TEMPORARY}
    [said] = [done.output for done in results if done.output]
    assert said == results[patience.SILENT_RUNS].output
    assert f"process {os.getpid()})" in said
    assert "kill -KILL" in said


@pytest.mark.usefixtures("state_dir")
def test_what_is_left_to_another_run_is_counted_apart() -> None:
    """Of a controller that hangs each second run is one: what is told is that it hangs."""
    left, failed = CheckInUnderWay("left"), Unreachable("hangs")
    told = [
        error.code
        for _ in range(patience.SILENT_RUNS + 1)
        for error in (left, failed)
        if patience.speaks("home", error)
    ]
    assert told == ["unreachable"]
    patience.over("home")
    assert not runtime_directory().exists()


def test_where_nothing_can_be_noted_a_check_in_goes_on(
    state_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (state_dir / "file").touch()
    monkeypatch.setenv("NMK_RUNTIME_DIR", str(state_dir / "file" / "run"))
    with Door(lambda _: b"no HTTP") as door:
        state.save(replace(joined(), urls=(door.url,), down=True))
        [(_, outcome)] = check_in_all(["home"], Noting, in_turn=True)
    assert isinstance(outcome, BadReply)


@pytest.mark.parametrize(
    "error", [ImportError("gone"), SystemExit(1)], ids=lambda e: type(e).__name__
)
@pytest.mark.usefixtures("state_dir")
def test_whoever_waits_gets_an_answer_whatever_becomes_of_asking(
    monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    """Also where the build is found damaged again, so soon that it is not unpacked anew."""

    def refuse(_: BaseException) -> None:
        raise bootstrap.CannotStart("it is damaged", "rm -r it", 1)

    def broken(*_: object, **__: object) -> None:
        raise error

    def end(_: object, outcome: NmkError, __: Runner) -> None:
        raise outcome

    if isinstance(error, ImportError):
        monkeypatch.setattr(unforeseen, "start_again", refuse)
    monkeypatch.setattr(tick, "check_in", broken)
    monkeypatch.setattr(rounds, "end", end)
    monkeypatch.setattr(rounds, "LONGEST", 5.0)
    state.save(replace(joined(), interface="none-home", urls=("http://127.0.0.1:9",)))
    [(network, outcome)] = check_in_all(["home"], Noting, in_turn=True)
    assert network == "home"
    assert isinstance(outcome, NmkError)
    message = "it is damaged" if isinstance(error, ImportError) else f"internal error: {error!r}"
    assert outcome.message == message
