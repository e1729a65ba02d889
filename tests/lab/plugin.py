"""The pytest fixture `lab`, and the logs of its hosts in the report of a failed test."""

from __future__ import annotations

import os
from collections.abc import Generator, Iterator

import pytest

from . import Lab


@pytest.fixture
def lab() -> Iterator[Lab]:
    """A lab for one test; the test is skipped when root does not run it."""
    if os.geteuid() != 0:
        pytest.skip("the lab makes namespaces, and so needs root")
    with Lab() as made:
        yield made


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    made = getattr(item, "funcargs", {}).get("lab")
    if report.failed and report.when == "call" and isinstance(made, Lab):
        report.sections += [(f"log {name}", text) for name, text in made.logs().items()]
    return report
