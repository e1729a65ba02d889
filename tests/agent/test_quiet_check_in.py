"""What cron hears of `nmk checkin --quiet` on a machine that is in no network."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="the command is root's")


def check_in(state: Path, *options: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "nmk.cli.main", "checkin", *options],
        cwd=Path(__file__).parents[2],
        env={**os.environ, "NMK_STATE_DIR": str(state)},
        capture_output=True,
        text=True,
        check=False,
    )


def test_a_line_left_in_crontab_is_silent(tmp_path: Path) -> None:
    done = check_in(tmp_path, "--quiet")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_a_person_is_told(tmp_path: Path) -> None:
    done = check_in(tmp_path)
    assert done.returncode == 1
    assert "this machine is in no network" in done.stderr
