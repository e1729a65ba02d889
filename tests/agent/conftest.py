from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.agent.controllers import RealController


@pytest.fixture
def state_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty state directory, and no settings of this machine's own."""
    directory = tmp_path / "state"
    directory.mkdir()
    monkeypatch.setenv("NMK_STATE_DIR", str(directory))
    monkeypatch.setenv("NMK_CONFIG_DIR", str(tmp_path / "config"))
    return directory


@pytest.fixture
def controller(tmp_path: Path) -> Iterator[RealController]:
    """A controller with the network `home`, answering."""
    directory = tmp_path / "controller"
    directory.mkdir()
    with RealController(directory).serving() as served:
        yield served
