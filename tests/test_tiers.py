"""The three tiers of tests: each says what it leaves out, and that is what it does not run."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
MODULE = """
import pytest
from tests.tiers import sample

@pytest.fixture
def lab():
    pass

@pytest.mark.usefixtures("lab")
def test_in_a_lab():
    pass

def test_of_a_sample(full):
    pass

@pytest.mark.parametrize("case", sample(["one", "two", "three"], "one"))
def test_cases(case):
    pass
"""
LAB = "1 tests, needs namespaces (scripts/test)"
LONG = "2 tests, only with --full (scripts/test --full)"
SAMPLE = "all but a sample in 1 tests (--full)"
ELSEWHERE = "other Pythons, processors and distributions"
SHORT = "long fuzzing, tests by themselves, rqlite below all of the controller's (--full)"
STUBS = {
    "lib.sh": "PYTHON=true; need_root() { :; }; need_packages() { :; }; build_nmk() { :; }\n"
    'say() { echo "$*" >&2; }\n',
    **dict.fromkeys(("check", "fuzz", "vm"), '#!/bin/sh\necho "scripts/${0##*/} $*"\n'),
}
PYTEST = '#!/bin/sh\n[ -z "${BROKEN-}" ] || exit 1\necho "$*"\n'


def left_out(text: str) -> list[str]:
    return re.findall(r"^left out: (.*)$", text, re.MULTILINE)


@pytest.mark.parametrize(
    ("options", "outcome", "said"),
    [
        (("--quick",), "2 passed, 3 skipped", [LAB, LONG, SAMPLE]),
        ((), "3 passed, 2 skipped", [LONG, SAMPLE]),
        (("--full",), "5 passed", []),
    ],
)
def test_what_a_run_leaves_out(
    tmp_path: Path, options: tuple[str, ...], outcome: str, said: list[str]
) -> None:
    (tmp_path / "test_it.py").write_text(MODULE)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "tests.tiers", *options]
    command += ["-p", "no:cacheprovider", f"--rootdir={tmp_path}", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert outcome in done.stdout, done.stdout
    assert left_out(done.stdout) == said


@dataclass(frozen=True)
class Tier:
    """`calls`: the arguments of each pytest, and the scripts that were run."""

    calls: list[str]
    left_out: list[str]
    exit_code: int

    def called(self, *words: str) -> bool:
        """Whether one call has all of these."""
        return any(set(words) <= set(call.split()) for call in self.calls)


def run_tier(place: Path, *options: str, **environment: str) -> Tier:
    """`scripts/test` as it is, with nothing but a word in the place of all that it runs."""
    scripts, python = place / "scripts", place / ".venv" / "bin" / "python"
    for directory in (scripts, python.parent):
        directory.mkdir(parents=True)
    for tests in (p for p in (ROOT / "tests").iterdir() if p.is_dir()):
        (place / "tests" / tests.name).mkdir(parents=True)
    shutil.copy(ROOT / "scripts" / "test", scripts)
    for path, text in [(python, PYTEST), *((scripts / name, text) for name, text in STUBS.items())]:
        path.write_text(text)
        path.chmod(0o755)
    done = subprocess.run(
        [scripts / "test", *options],
        env=os.environ | environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    return Tier(done.stdout.splitlines(), left_out(done.stderr), done.returncode)


def test_the_quick_tier_says_which_directories_it_leaves_out(tmp_path: Path) -> None:
    tier = run_tier(tmp_path, "--quick")
    [gates, tests] = tier.calls
    [others, elsewhere] = tier.left_out
    assert (gates, elsewhere, tier.exit_code) == ("scripts/check ", ELSEWHERE, 0)
    assert "--quick" in tests.split()
    run, named = (set(re.findall(r"tests/(\w+)", text)) for text in (tests, others))
    assert named > {"e2e", "gateways", "hostile", "life", "vm"}
    assert not run & named
    files = {path.parent.relative_to(ROOT / "tests") for path in ROOT.glob("tests/*/test_*.py")}
    assert {str(path) for path in files} <= run | named
    assert "tests/test_*.py" in others
    assert "(scripts/test)" in others


@pytest.mark.parametrize("options", [(), ("--full",)])
def test_what_the_default_tier_leaves_out_the_full_one_does(
    tmp_path: Path, options: tuple[str, ...]
) -> None:
    tier = run_tier(tmp_path, *options)
    full = bool(options)
    assert tier.left_out == [*([] if full else [SHORT]), ELSEWHERE]
    assert tier.exit_code == 0
    assert tier.called("--db", "postgresql", "tests/server", "tests/cli")
    assert tier.called("scripts/vm")
    assert tier.called("--ignore", "tests/vm")  # all tests but those that `scripts/vm` runs
    assert tier.called("--full", "--ignore", "tests/vm") == full
    assert tier.called("--alone", "tests/life", "tests/gateways") == full
    assert tier.called("--db", "rqlite", "tests/server", "tests/cli") == full
    assert tier.called("scripts/fuzz") == full


def test_a_stage_that_fails_fails_the_run_and_stops_no_other(tmp_path: Path) -> None:
    tier = run_tier(tmp_path, BROKEN="yes")
    assert tier.exit_code == 1
    assert tier.calls == ["scripts/check ", "scripts/vm "]
    assert tier.left_out == [SHORT, ELSEWHERE]
