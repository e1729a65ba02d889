from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
MODULE = """
import pytest

@pytest.fixture(scope="module")
def shared():
    return []

def test_first(shared):
    shared.append("setting")
    assert {first}

def test_second(shared):
    assert shared == {found}
"""


@pytest.mark.parametrize(
    ("first", "options", "found", "outcome"),
    [
        (True, (), ["setting"], "2 passed"),
        (False, (), [], "1 failed, 1 passed"),
        (True, ("--alone",), [], "2 passed"),
    ],
)
def test_what_tests_share_ends_with_the_first_that_fails(
    tmp_path: Path, first: bool, options: tuple[str, ...], found: list[str], outcome: str
) -> None:
    (tmp_path / "test_it.py").write_text(MODULE.format(first=first, found=found))
    command = [sys.executable, "-m", "pytest", "-q", "-p", "tests.sharing", *options]
    command += [f"--rootdir={tmp_path}", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert outcome in done.stdout, done.stdout
