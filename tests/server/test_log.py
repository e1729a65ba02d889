"""What the controller's log says of troubles that last, and of chores that fail."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

import pytest

from nmk.errors import StoreUnavailable
from nmk.server.chores import Chores
from nmk.server.controller import Controller
from nmk.server.log import Lasting
from nmk.store.engine import open_engine
from nmk.store.store import Store
from nmk.wire.envelope import Identity
from tests.lab.polling import poll
from tests.server.inside import Time

Lines = Callable[[], list[tuple[str, dict[str, object]]]]
HOUR = 3600


@pytest.fixture
def lines(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> Lines:
    """What was logged since it was asked last: events and their fields."""
    monkeypatch.setattr(logging.getLogger("nmk"), "propagate", True)
    caplog.set_level(logging.INFO, "nmk")

    def taken() -> list[tuple[str, dict[str, object]]]:
        found = [(r.getMessage(), getattr(r, "fields", {})) for r in caplog.records]
        caplog.clear()
        return found

    return taken


def test_a_trouble_that_lasts_is_told_seldom(lines: Lines) -> None:
    time = Time()
    trouble = Lasting("away", "back", time.clock.monotonic)

    def told(*reasons: str, seconds: float = 2) -> list[str]:
        for reason in reasons:
            time.now += seconds
            trouble.tell(reason=reason)
        return [str(fields["reason"]) for event, fields in lines() if event == "away"]

    trouble.end()
    assert lines() == []  # nothing was wrong
    assert told(*["a"] * 1000) == ["a"]
    assert told("a", seconds=HOUR) == ["a"]
    assert told(*["b", "c"] * 14) == []  # another one, but within a minute
    assert told("b", "c", seconds=60) == ["b", "c"]
    trouble.end(chore="x")
    trouble.end(chore="x")
    assert lines() == [("back", {"chore": "x"})]
    assert told(*["c"] * 29) == []  # anew, but within a minute
    trouble.end()
    assert lines() == []  # so there is nothing to take back
    assert told("c", "c", seconds=60) == ["c"]


def test_a_database_that_cannot_be_read_is_told_once_with_what_helps(
    tmp_path: Path, lines: Lines
) -> None:
    time, path = Time(), tmp_path / "nmk.db"
    store = Store(open_engine(f"sqlite://{path}"))
    controller = Controller(store, Identity.generate(), time.clock)

    def look_often() -> list[str]:
        for _ in range(20):
            time.now += 2
            controller.catch_up()
        found = lines()
        assert all(fields.get("hint", "") == hint for event, fields in found)
        return [event for event, _ in found]

    away, hint = path.rename(tmp_path / "away.db"), "put the file back"
    assert look_often() == ["database-not-read"]
    away.rename(path)
    hint = ""
    assert look_often() == ["database-read-again"]
    assert look_often() == []
    store.close()


@pytest.mark.parametrize("failure", [StoreUnavailable("its disk is full"), ValueError("odd")])
def test_a_chore_that_fails_for_long_is_told_once(failure: Exception, lines: Lines) -> None:
    fails = True
    done: list[bool] = []

    def chore() -> None:
        done.append(fails)
        if fails:
            raise failure

    with Chores(chore, {chore: 0}):
        assert done  # the first time is over before anything else may happen
        poll(lambda: len(done) > 2, 20, "a chore that is repeated")
        fails = False
        poll(lambda: done[-1] is False, 20, "one that works")
    (failed, fields), (works, _) = lines()
    assert (failed, works) == ("chore-failed", "chore-works-again")
    assert fields["chore"] == "chore"
    assert fields["reason"] in {"its disk is full", "ValueError"}
    assert "hint" in fields or "ValueError: odd" in str(fields["traceback"])


def test_a_seldom_chore_is_done_soon_after_a_start(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else a controller that is stopped each night would never do it."""
    monkeypatch.setattr("nmk.server.chores._FIRST_SECONDS", 0)
    done: list[int] = []
    with Chores(lambda: None, {lambda: done.append(1): 86400}):
        poll(lambda: len(done) == 1, 20, "the chore")
