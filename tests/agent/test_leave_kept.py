"""Leaving where the state cannot be removed: the machine stays in, whole."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from nmk.agent import state
from tests.agent.memberships import joined

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="mounts")
ROOT = Path(__file__).parents[2]


def leaving(state_dir: Path, *options: str) -> subprocess.CompletedProcess[str]:
    """`nmk leave` on a read-only disk; its controller cannot be reached."""
    script = f"""
mount --bind {state_dir} {state_dir}
mount -o remount,bind,ro {state_dir}
exec {sys.executable} -c 'from nmk.cli.main import run
import sys; sys.exit(run(["leave", *sys.argv[1:]]))' {" ".join(options)}
"""
    return subprocess.run(
        ["unshare", "--mount", "--net", "sh", "-euc", script],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def test_a_state_that_would_stay_is_seen_before_the_controller_is_told(state_dir: Path) -> None:
    state.save(joined())
    done = leaving(state_dir)
    path = state.file_of("home")
    assert done.stderr == (
        f"nmk: {path} cannot be removed: Read-only file system; nothing was done\n"
        "  try: make it writable, then: nmk leave -n home\n"
    )
    assert done.returncode == 1


def test_leaving_by_force_there_says_how_it_comes_to_its_end(state_dir: Path) -> None:
    state.save(joined())
    done = leaving(state_dir, "--force")
    assert done.returncode == 1
    assert done.stderr.endswith(
        "cannot be removed: Read-only file system; "
        "until it is, the next check-in brings home back\n"
        "  try: make it writable, then: nmk leave -n home\n"
    )


def test_a_look_changes_nothing(state_dir: Path) -> None:
    state.save(joined())
    before = sorted(state_dir.iterdir())
    state.check_removable("home")
    assert sorted(state_dir.iterdir()) == before
