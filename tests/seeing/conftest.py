"""One lab and one mesh a module, for what is seen through real tunnels."""

from __future__ import annotations

from typing import NamedTuple

import pytest

from tests.lab import Host, Lab
from tests.mesh import NMK, Mesh, reaches


class Pair(NamedTuple):
    """Two machines in a mesh that have met."""

    mesh: Mesh
    anna: Host
    bert: Host
    bert_address: str


@pytest.fixture(scope="module")
def lab(module_lab: Lab) -> Lab:
    assert NMK.exists(), f"there is no {NMK}: python3 build_zipapp.py"
    return module_lab


@pytest.fixture(scope="module")
def met(lab: Lab) -> Pair:
    mesh = Mesh(lab, "10.77.0.0/24", "fd77::/64")
    anna, bert = mesh.members("anna", "bert")
    return Pair(mesh, anna, bert, mesh.address("bert"))


@pytest.fixture
def pair(met: Pair) -> Pair:
    """The pair, in touch, with anna up to date."""
    met.anna.run("nmk", "up")
    met.anna.run("nmk", "checkin")
    reaches(met.anna, met.bert_address)
    return met
