"""Tests for a machine with the kernel's WireGuard and systemd, which `scripts/vm` runs there.

All takes about thirty times as long there: no command is run that could be spared.
"""

from __future__ import annotations

import os

import pytest

from tests.lab import Host, Lab, Network
from tests.mesh import Mesh

if "VIRTUAL_MACHINE" not in os.environ:
    collect_ignore_glob = ["test_*.py"]


@pytest.fixture(scope="module")
def lab(module_lab: Lab) -> Lab:
    return module_lab


@pytest.fixture(scope="module")
def mesh(lab: Lab) -> Mesh:
    return Mesh(lab, "10.77.0.0/16", "fd77::/64")


@pytest.fixture(scope="module")
def token(mesh: Mesh) -> str:
    """Lets in all machines of the module."""
    return mesh.token("--unlimited")


@pytest.fixture(scope="module")
def cafe(mesh: Mesh) -> Network:
    """A LAN behind a router that translates addresses."""
    ranges = ("192.168.1.0/24", "2001:db8:1::/64")
    return mesh.lab.lan(
        "cafe", ranges[0], cidr6=ranges[1], nat="port-restricted", behind=mesh.internet
    )


@pytest.fixture(scope="module")
def anna(mesh: Mesh, token: str, cafe: Network) -> Host:
    return mesh.join(mesh.machine("anna", on=cafe), token=token)


@pytest.fixture(scope="module")
def untouched(mesh: Mesh) -> Host:
    """The one that is bert's."""
    return mesh.machine("bert")


@pytest.fixture(scope="module")
def bert(mesh: Mesh, token: str, anna: Host, untouched: Host) -> Host:
    """A machine that the internet reaches; anna knows of it."""
    bert = mesh.join(untouched, "--daemon", "off", token=token)
    anna.run("nmk", "checkin")
    return bert
