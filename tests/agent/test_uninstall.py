"""Files nmk that stay on the machine are named."""

from __future__ import annotations

from pathlib import Path

import pytest

from nmk import archive
from nmk.agent import salvage, uninstall
from nmk.system.runner import DryRunner


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


def test_the_installed_copy_goes_without_a_word(
    installed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    installed.touch()
    monkeypatch.setattr(archive, "running_file", lambda: installed)
    assert uninstall.kept_files() == []
    assert installed in uninstall.leftovers(purge=False)
