"""What `scripts/bench` prints, and that it measures real processes; the figures are its own."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from subprocess import run
from typing import cast

import pytest
from click.testing import CliRunner, Result

from scripts.benchmarks.__main__ import GROUPS
from scripts.benchmarks.command import make_command
from scripts.benchmarks.figures import Figure, Group, Values
from scripts.benchmarks.measure import Series
from scripts.benchmarks.stage import Stage
from tests.lab.polling import patient

ROOT = Path(__file__).parents[1]
LIGHT = Figure("light", "x", 1.5, "one that holds")
HEAVY = Figure("heavy", "MB", 35.0, "one that does not")
FREE = Figure("free", "per s", None, "one without a limit")


@contextmanager
def no_stage() -> Iterator[Stage]:
    yield cast(Stage, None)


def measure(_stage: Stage, rounds: Iterable[int]) -> Values:
    assert list(rounds) == [0, 1, 2]
    return {"light": 1.23456, "heavy": 36.0, "free": 12_345.6}


def never(_stage: Stage, _rounds: Iterable[int]) -> Values:
    raise AssertionError("nobody asked for it")


def bench(*args: str) -> Result:
    groups = (
        Group((LIGHT, HEAVY, FREE), 3, measure),
        Group((Figure("other", "x", 1.0, "of another group"),), 1, never),
    )
    return CliRunner().invoke(make_command(groups, no_stage), args)


def test_json() -> None:
    result = bench("--json", "light", "free")
    assert result.exit_code == 0
    assert json.loads(result.stdout) == {
        "figures": [
            {"name": "light", "value": 1.2346, "unit": "x", "limit": 1.5, "holds": True},
            {"name": "free", "value": 12345.6, "unit": "per s", "limit": None, "holds": True},
        ]
    }


def test_one_that_does_not_hold_is_an_error() -> None:
    result = bench("light", "heavy")
    assert result.exit_code == 1
    assert result.stdout.splitlines()[2:] == [
        "light        1.23      1.5  x       yes",
        "heavy          36       35  MB      NO",
    ]


def test_a_figure_alone() -> None:
    result = bench("light")
    assert result.exit_code == 0
    assert "heavy" not in result.stdout


def test_a_name_that_is_none() -> None:
    result = bench("lihgt")
    assert result.exit_code == 2
    assert "'light', 'heavy', 'free', 'other'" in result.output


def test_the_list_measures_nothing() -> None:
    result = bench("--list")
    assert result.exit_code == 0
    assert [line.split()[0] for line in result.stdout.splitlines()[2:]] == [
        "light", "heavy", "free", "other"
    ]  # fmt: skip


def test_ratios_are_taken_within_a_round() -> None:
    series = Series()
    for one, two in ((1, 2), (10, 20), (50, 1)):  # the machine was slow for a round, then odd
        series.add("one", one)
        series.add("two", two)
    assert series.ratio("one", "two") == 0.5


def test_every_figure_is_documented() -> None:
    page = (ROOT / "docs" / "performance.md").read_text()
    figures = [f for g in GROUPS for f in g.figures]
    assert len({f.name for f in figures}) == len(figures)
    assert [f.name for f in figures if f"`{f.name}`" not in page] == []


def test_a_real_figure() -> None:
    if os.geteuid() != 0:
        pytest.skip("the lab makes namespaces, and so needs root")
    command = [sys.executable, "-m", "scripts.benchmarks", "--json", "memory-100"]
    done = run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=patient(120))
    assert (done.returncode, done.stderr) == (0, "")
    [figure] = json.loads(done.stdout)["figures"]
    assert figure["name"] == "memory-100"
    assert 10 < figure["value"] <= figure["limit"] == 80.25
