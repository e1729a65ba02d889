"""Files nmk that stay on the machine are named."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from nmk import archive
from nmk.agent import salvage, service, state, surroundings, uninstall
from nmk.cli import machine
from nmk.system import filter as packet_filter
from nmk.system.runner import DryRunner
from tests.agent.failing_files import Deaf
from tests.agent.memberships import joined
from tests.cli.inprocess import nmk


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where nmk is installed."""
    path = tmp_path / "installed"
    monkeypatch.setattr(uninstall, "INSTALLED", path)
    return path


def test_another_copy_says_which_files_stay(
    installed: Path, state_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert state_dir.is_dir()
    installed.touch()
    other = tmp_path / "my tools/nmk"
    monkeypatch.setattr(archive, "running_file", lambda: other)
    monkeypatch.setattr(salvage, "leftovers", lambda _: salvage.Leftovers())
    said: list[str] = []
    uninstall.uninstall(DryRunner(lambda _: None), said.append)
    assert f"{installed} stays, as another copy runs; to remove it: rm {installed}" in said
    assert f"this copy stays; to remove it: rm '{other}'" in said
    assert installed not in uninstall.leftovers(purge=True)


def test_what_stays_for_want_of_nft_is_said_in_the_end_and_by_the_exit_code(
    installed: Path, state_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All else is gone by then, nmk too; a kill switch that stays cuts the machine off."""
    installed.touch()
    (tmp_path / "cache").mkdir()
    monkeypatch.setattr(uninstall, "CACHES", (tmp_path / "cache",))
    monkeypatch.setattr(uninstall, "CRON_FILE", tmp_path / "cron")
    monkeypatch.setattr(archive, "running_file", lambda: installed)
    monkeypatch.setattr(service, "remove", lambda *_: False)
    monkeypatch.setattr(surroundings, "has_tool", lambda name: name != "nft")
    monkeypatch.setattr(packet_filter, "has_tool", lambda name: name != "nft")
    monkeypatch.setattr(machine, "check_root", lambda _: None)
    monkeypatch.setattr(machine, "runner", lambda *_: Deaf())
    for network in ("a", "home"):
        me = replace(joined(), network=network, interface=f"none-{network}", down=True)
        me = replace(me, urls=("http://127.0.0.1:9",))
        state.save(replace(me, laid=frozenset({"filter"})) if network == "home" else me)
    done = nmk("uninstall", "--yes")
    assert done.code == 1
    *_, problem, hint = done.err.splitlines()
    assert problem == (
        "nmk: nft is not installed: the packet filter 'table inet nmk-home' stays as it is"
    )
    assert hint == "  try: apt-get install nftables; then: nft delete table inet nmk-home"
    assert not any(p.exists() for p in (installed, tmp_path / "cache", state_dir / "home.json"))


def test_the_installed_copy_goes_without_a_word(
    installed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    installed.touch()
    monkeypatch.setattr(archive, "running_file", lambda: installed)
    assert uninstall.kept_files() == []
    assert installed in uninstall.leftovers(purge=False)
