"""Threads whose start cannot hang."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest

from nmk import threads
from nmk.errors import MachineUnfit


def test_what_is_started_is_done_beside() -> None:
    go, done = threading.Event(), threading.Event()

    def action() -> None:
        go.wait()
        done.set()

    threads.start(action)
    go.set()
    assert done.wait(10)


def test_a_thread_that_dies_before_it_runs_is_not_waited_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As where there is no memory for its first frame; one that comes late does nothing."""
    late, done = list[Callable[[], None]](), list[bool]()
    monkeypatch.setattr(threads, "_SECONDS", 0.05)
    monkeypatch.setattr(threads, "start_new_thread", lambda body, _: late.append(body))
    with pytest.raises(MachineUnfit, match="no more threads"):
        threads.start(lambda: done.append(True))
    late[0]()
    assert not done


@pytest.mark.parametrize("error", [RuntimeError("can't start new thread"), MemoryError()])
def test_no_thread_is_an_error(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr(threads, "start_new_thread", fail)
    with pytest.raises(MachineUnfit, match="no more threads"):
        threads.start(lambda: None)
