"""What all tests share: the lab, databases, tiers, and a place for nmk that is no machine's."""

from __future__ import annotations

import os
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from nmk.agent import places
from nmk.cli import output
from tests.isolation import see_nothing_here

pytest_plugins = [
    "tests.engines.plugin",
    "tests.lab.plugin",
    "tests.server.plugin",
    "tests.sharing",
    "tests.tiers",
]

# An nmk that this machine has is none of the tests' business, nor what its owner has set. Tests,
# and all that they start, find these instead, empty.
_NOWHERE = TemporaryDirectory(prefix="nmk-tests-")
for variable in [name for name in os.environ if name.startswith("NMK_")]:
    if variable not in {"NMK_TEST_CACHE", "NMK_WRITE_GOLDEN"}:
        del os.environ[variable]
os.environ |= {
    "NMK_CONFIG_DIR": f"{_NOWHERE.name}/etc",
    "NMK_RUNTIME_DIR": f"{_NOWHERE.name}/run",
    "NMK_STATE_DIR": f"{_NOWHERE.name}/state",
    "NMK_SERVER": f"unix://{_NOWHERE.name}/admin.sock",
}
see_nothing_here(Path(_NOWHERE.name))


@pytest.fixture(autouse=True)
def _spoken_to_anew() -> None:
    """What a test's command was told, such as to be quiet, is not told to the next."""
    output._mode.clear()


@pytest.fixture
def state_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty state directory, and no settings or notes of this machine's own."""
    directory = tmp_path / "state"
    directory.mkdir()
    monkeypatch.setenv("NMK_STATE_DIR", str(directory))
    monkeypatch.setenv("NMK_CONFIG_DIR", str(tmp_path / "config"))
    monkeypatch.setenv("NMK_RUNTIME_DIR", str(tmp_path / "run"))
    monkeypatch.setattr(places, "_RUNTIME", tmp_path / "run")
    return directory
