"""How thorough these tests are, and the controller that most of them torment."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.lab import Lab
from tests.mesh import Mesh
from tests.reliability.served import Served, serving_home

STOPPED = "stopped at"


@pytest.fixture
def stopped(record_property: Callable[[str, object], None]) -> Callable[[int], None]:
    """Tells how many kill points a test has tried, for the summary at the end."""

    def tell(points: int) -> None:
        assert points, "the harness stopped nothing"
        record_property(STOPPED, points)

    return tell


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    reports = terminalreporter.getreports("passed")
    figures = {r.head_line: dict(r.user_properties).get(STOPPED) for r in reports}
    for test, points in figures.items():
        if points:
            terminalreporter.write_line(f"{test}: stopped at {points} points, converged from all")


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    """A controller on the loopback address, with the network `home`."""
    with serving_home(tmp_path) as controller:
        yield controller


@pytest.fixture
def mesh(lab: Lab) -> Mesh:
    """A controller in the lab, with the network `home`."""
    return Mesh(lab)
