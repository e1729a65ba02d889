"""The fixtures `lab` and `module_lab`, and the logs of its hosts in the report of a failed test."""

from __future__ import annotations

import os
from collections.abc import Generator, Iterator
from contextlib import contextmanager

import pytest

from . import Lab


@pytest.fixture
def lab() -> Iterator[Lab]:
    """A lab for one test; the test is skipped when root does not run it."""
    with _made() as made:
        yield made


@pytest.fixture(scope="module")
def module_lab() -> Iterator[Lab]:
    """One lab for all tests of a module: each leaves it as it was."""
    with _made() as made:
        yield made


@contextmanager
def _made() -> Iterator[Lab]:
    if os.geteuid() != 0:
        pytest.skip("the lab makes namespaces, and so needs root")
    with Lab() as made:
        yield made


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    given = getattr(item, "funcargs", {}).values()  # a mesh and the like have their lab
    labs = [x for g in given for x in (g, getattr(g, "lab", None)) if isinstance(x, Lab)]
    if report.failed and report.when == "call" and labs:
        report.sections += [(f"log {name}", text) for name, text in labs[0].logs().items()]
    return report
