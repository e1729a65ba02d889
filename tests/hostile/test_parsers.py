"""A short run of the fuzzer; `scripts/fuzz` runs a long one."""

from __future__ import annotations

import platform
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]


@pytest.mark.skipif(platform.machine() != "x86_64", reason="the fuzzer has no wheels for others")
def test_parsers_refuse_made_up_bytes() -> None:
    done = subprocess.run(
        [sys.executable, "scripts/fuzz.py", "10000"],
        cwd=REPOSITORY,
        env={"PYTHONPATH": str(REPOSITORY), "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    told = [line.split()[0] for line in done.stdout.splitlines()]
    assert told
    assert set(told) == {"ok"}
