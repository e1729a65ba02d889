"""What all tests share: the lab, databases, and how hard hypothesis tries."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

pytest_plugins = ["tests.engines.plugin", "tests.lab.plugin"]

settings.register_profile(
    "quick",
    max_examples=40,
    deadline=None,  # two cores that other work shares: a slow example proves nothing
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("quick")


@pytest.fixture
def state_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty state directory, and no settings of this machine's own."""
    directory = tmp_path / "state"
    directory.mkdir()
    monkeypatch.setenv("NMK_STATE_DIR", str(directory))
    monkeypatch.setenv("NMK_CONFIG_DIR", str(tmp_path / "config"))
    return directory
