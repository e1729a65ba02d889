"""Hooks run beside the agent, in order, within bounds; what is left out is said."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from nmk.agent import hooks
from nmk.core.hooks import MOST_PEERS, Event
from nmk.core.tunnel import TunnelPeer
from nmk.system.runner import Runner
from tests.agent.memberships import joined
from tests.core.made import key32
from tests.lab.polling import patient, poll

SECONDS = hooks.SECONDS
FOREVER = patient(60)  # that a hook may take here: no test waits for the end of that


class Told:
    """A hook that writes what it is called for, and waits for `go` where the gate is shut."""

    def __init__(self, directory: Path) -> None:
        self.file, self._gate = directory / "told", directory / "gate"
        self.said: list[str] = []
        self.run = Runner(warn=self.said.append)
        self.hooks = directory / "config" / "hooks"
        self.hooks.mkdir(parents=True)

    def hook(self, event: str, more: str = "") -> None:
        wait = f"while [ -e {self._gate} ]; do sleep 0.02; done"
        path = self.hooks / event
        tell = f'echo "$NMK_EVENT $NMK_PEER$NMK_MORE" >> {self.file}'
        path.write_text(f"#!/bin/sh\n{tell}\n{wait}\n{more}\n")
        path.chmod(0o755)

    def shut(self) -> None:
        self._gate.touch()

    def go(self) -> None:
        self._gate.unlink()

    def call(self, *events: Event) -> None:
        hooks.call(events, joined(), {}, self.run)

    @property
    def events(self) -> list[str]:
        return self.file.read_text().split("\n")[:-1] if self.file.exists() else []


@pytest.fixture
def told(state_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Told:
    monkeypatch.setattr(hooks, "find_fault", lambda _: None)  # others can write to /tmp
    monkeypatch.setattr(hooks, "SECONDS", FOREVER)
    assert state_dir.parent == tmp_path
    return Told(tmp_path)


def peers(count: int) -> list[Event]:
    come = (TunnelPeer(key32(n + 1), (f"10.77.0.{n + 1}/32",)) for n in range(count))
    return [Event("peer-added", peer) for peer in come]


def test_the_agent_goes_on_while_hooks_run_and_they_keep_their_order(told: Told) -> None:
    for event in ("up", "down", "peer-added"):
        told.hook(event)
    told.shut()
    with hooks.in_background():
        before = time.monotonic()
        for name in ("up", "down", "up"):
            told.call(Event(name))
        assert time.monotonic() - before < FOREVER
        poll(lambda: told.events == ["up "], 10, "the first hook")
        told.go()
        poll(lambda: told.events == ["up ", "down ", "up "], 10, "all hooks")
    assert told.said == []


def test_changes_that_come_faster_than_their_hooks_are_left_out_and_up_and_down_are_not(
    told: Told,
) -> None:
    for event in ("up", "down", "peer-added"):
        told.hook(event)
    told.shut()
    with hooks.in_background():
        told.call(Event("up"))
        poll(lambda: told.events == ["up "], 10, "the first hook")
        for _ in range(hooks.MOST_WAITING + 2):
            told.call(*peers(3))
        told.call(Event("down"))
        left_out = "hooks: those of earlier changes still run; calls left out: 3"
        assert told.said == [left_out] * 2
        told.go()
        poll(lambda: told.events[-1] == "down ", 20, "the last hook")
    assert told.events.count("peer-added ") == 3 * hooks.MOST_WAITING


def test_an_agent_that_ends_waits_for_the_hook_that_runs_and_names_the_others(told: Told) -> None:
    told.hook("up", "echo done >> ${0%/*}/../../told")
    told.shut()
    with ThreadPoolExecutor(1) as pool, hooks.in_background():
        [thread] = hooks._threads
        told.call(Event("up"))
        poll(lambda: told.events == ["up "], 10, "the first hook")
        told.call(Event("up"))

        def when_it_ends() -> None:
            poll(thread._is_over.is_set, 10, "end of the agent")
            told.go()

        opened = pool.submit(when_it_ends)
    opened.result()
    assert told.events == ["up ", "done"]
    assert told.said == ["hooks: nmk agent ends; calls left out: 1"]


def test_all_hooks_of_a_change_have_a_time_together(
    told: Told, monkeypatch: pytest.MonkeyPatch
) -> None:
    told.hook("peer-added", "sleep 0.2")
    monkeypatch.setattr(hooks, "ALL_SECONDS", 0.3)
    told.call(*peers(10))
    assert 1 <= len(told.events) < 10
    assert told.said == [f"hooks: 0 s are over; calls left out: {10 - len(told.events)}"]


def test_of_more_peers_than_it_is_called_for_a_hook_is_told_the_number(told: Told) -> None:
    told.hook("peer-added")
    told.call(*peers(2), Event("peer-added", more=300))
    assert told.events == ["peer-added ", "peer-added ", "peer-added 300"]
    assert told.said == ["hook peer-added: 300 more peers are one call"]
    assert MOST_PEERS * SECONDS > hooks.ALL_SECONDS
