"""What the tests of the whole share: one lab and one mesh a module."""

from __future__ import annotations

import pytest

from tests.lab import Lab
from tests.mesh import NMK, Mesh


@pytest.fixture(scope="module")
def lab(module_lab: Lab) -> Lab:
    """A lab for the tests of one module; they are skipped when root does not run them."""
    assert NMK.exists(), f"there is no {NMK}: python3 build_zipapp.py"
    return module_lab


@pytest.fixture(scope="module")
def mesh(lab: Lab) -> Mesh:
    """A controller that runs, with the network `home`."""
    return Mesh(lab)
