"""What the tests of the whole share: one mesh a module, with the logs of its hosts on failure."""

from __future__ import annotations

import os
from collections.abc import Generator, Iterator

import pytest

from tests.lab import Lab
from tests.mesh import NMK, Mesh


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    """A lab for the tests of one module; they are skipped when root does not run them."""
    if os.geteuid() != 0:
        pytest.skip("the lab makes namespaces, and so needs root")
    assert NMK.exists(), f"there is no {NMK}: python3 build_zipapp.py"
    with Lab() as made:
        yield made


@pytest.fixture(scope="module")
def mesh(lab: Lab) -> Mesh:
    """A controller that runs, with the network `home`."""
    return Mesh(lab)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Add what background commands wrote to the report of a failed test."""
    report = yield
    made = getattr(item, "funcargs", {}).get("lab")
    if report.failed and isinstance(made, Lab):
        report.sections += [(f"log {name}", text) for name, text in made.logs().items()]
    return report
