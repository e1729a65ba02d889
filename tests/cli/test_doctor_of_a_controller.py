"""`nmk doctor` on a host that is a controller, and in no network."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from nmk.agent import doctor, state
from nmk.agent.checks import machine
from nmk.core.findings import Finding
from nmk.system.runner import Runner
from tests.cli.inprocess import nmk
from tests.server.process import Controller


@pytest.fixture(autouse=True)
def without_networks(monkeypatch: pytest.MonkeyPatch) -> None:
    lacks = [Finding("wireguard", "broken", "there is none", "install it")]
    monkeypatch.setattr(machine, "check_wireguard", lambda _: lacks)
    monkeypatch.setattr(state, "networks", list)


def test_it_looks_at_the_controller(
    controller: Controller, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NMK_DATA_DIR", str(controller.data))
    done = nmk("doctor", "-o", "json")
    [found] = json.loads(done.out)
    assert (done.code, found["check"], found["level"]) == (0, "server", "warn")
    assert "only this host can join" in found["reason"]
    assert "--public-url" in found["mend"]


def test_a_controller_that_does_not_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NMK_DATA_DIR", str(tmp_path))
    (tmp_path / "controller.key").touch()
    done = nmk("doctor", "-o", "json")
    [found] = json.loads(done.out)
    assert (done.code, found["level"]) == (1, "broken")
    assert "does not answer" in found["reason"]
    assert "nmk server" in found["mend"]


def test_a_machine_in_no_network_lacks_nothing_yet() -> None:
    found = list(doctor.examine([], Runner(), lambda: 0.0))
    assert found[0].level == "warn"
    assert "to join" in found[0].reason
