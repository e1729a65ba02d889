"""Sixty real nodes on one machine: one moves, and all find it again."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import pytest

from tests.lab import Host, Lab
from tests.mesh import CACHE, NMK, Mesh, reaches, unpacked

NODES, SAMPLE = 60, 12
LANS = 6  # the kernel knows 1024 neighbours for all namespaces together, not 60 times 60
NEW_ADDRESS = "198.18.0.77"
INDEX = "/sys/class/net/nmk-home/ifindex"

T = TypeVar("T")


def everywhere(hosts: list[Host], action: Callable[[Host], T]) -> list[T]:
    """What it gives on each host, a few of them at a time."""
    with ThreadPoolExecutor(4) as pool:
        return list(pool.map(action, hosts))


@pytest.fixture
def mesh(lab: Lab) -> Mesh:
    return Mesh(lab)


def nmk(host: Host, *command: str, typed: str | None = None) -> None:
    """Run the file from where it was built: no copy on sixty disks."""
    host.run(str(NMK), *command, input=typed)


def test_one_of_sixty_moves_and_all_reach_it_after_two_check_ins(mesh: Mesh, full: bool) -> None:
    nodes = NODES if full else SAMPLE
    token = mesh.token("--uses", str(nodes))
    lans = [mesh.lab.lan(f"lan{n}", f"198.18.{n}.0/24", behind=mesh.internet) for n in range(LANS)]
    linked = {CACHE: unpacked()}
    hosts = [mesh.lab.host(f"node{n}", lans[n % LANS], linked=linked) for n in range(nodes)]

    def join(host: Host) -> None:
        nmk(host, "join", "-", typed=token)

    def check_in(host: Host) -> None:
        nmk(host, "checkin")

    everywhere(hosts, join)
    everywhere(hosts, check_in)
    moved, others = hosts[0], hosts[1:]
    address = mesh.address("node0")

    def reaches_it(host: Host) -> None:
        reaches(host, address, 60)

    everywhere(others, reaches_it)
    before = everywhere(hosts, lambda host: host.read(INDEX))
    moved.readdress(lans[0], NEW_ADDRESS)
    check_in(moved)
    everywhere(others, check_in)
    check_in(moved)
    everywhere(others, reaches_it)
    assert everywhere(hosts, lambda host: host.read(INDEX)) == before
