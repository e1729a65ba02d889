"""What the tests of the whole share: one lab and one mesh a module."""

from __future__ import annotations

import os
from collections.abc import Iterator

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
