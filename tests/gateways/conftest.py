"""What the tests of gateways share: one lab and one mesh a module."""

from __future__ import annotations

import pytest

from tests.e2e.conftest import lab
from tests.lab import Lab
from tests.mesh import Mesh

__all__ = ["lab"]


@pytest.fixture(scope="module")
def mesh(lab: Lab) -> Mesh:
    """Its ranges are not picked, as tests have other networks and LANs beside it."""
    return Mesh(lab, "10.77.0.0/16", "fd10:77::/64")
