"""What `nmk checkin` costs before it does anything."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

HEAVY = {"flask", "peewee", "tabulate", "requests", "urllib.request", "waitress", "werkzeug"}


def test_a_check_in_imports_nothing_that_it_does_not_need(tmp_path: Path) -> None:
    state, config = tmp_path / "state", tmp_path / "config"
    program = (
        "import sys\n"
        "from nmk.cli.main import run\n"
        "run(['checkin'])\n"
        "import nmk.agent.tick\n"
        "print(*sys.modules)\n"
    )
    modules = subprocess.check_output(
        [sys.executable, "-c", program],
        env={"NMK_STATE_DIR": str(state), "NMK_CONFIG_DIR": str(config)},
        cwd=Path(__file__).parents[2],
        text=True,
        stderr=subprocess.DEVNULL,
    ).split()
    assert "nmk.agent.api" in modules
    assert not HEAVY & set(modules)
