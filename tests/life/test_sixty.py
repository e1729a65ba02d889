"""Sixty real nodes on one machine: one moves, and all find it again."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import pytest

from tests.lab import SHARED, Host, Lab
from tests.mesh import NMK, Mesh, reaches

NODES = 60
LANS = 6  # the kernel knows 1024 neighbours for all namespaces together, not 60 times 60
CACHE = "/var/cache/nmk"
NEW_ADDRESS = "198.18.0.77"
INDEX = "/sys/class/net/nmk-home/ifindex"

T = TypeVar("T")


def everywhere(hosts: list[Host], action: Callable[[Host], T]) -> list[T]:
    """What it gives on each host, a few of them at a time."""
    with ThreadPoolExecutor(4) as pool:
        return list(pool.map(action, hosts))


@pytest.fixture
def mesh() -> Iterator[Mesh]:
    with Lab() as lab:
        yield Mesh(lab)


@pytest.fixture
def unpacked(mesh: Mesh) -> str:
    """What the file unpacks, as hosts see it: to do it sixty times would be most of the work.

    It is taken from the controller's host.
    """
    shutil.copytree(f"/proc/{mesh.controller.pid}/root{CACHE}", mesh.lab.shared / "cache")
    return f"{SHARED}/cache"


def nmk(host: Host, *command: str, typed: str | None = None) -> None:
    """Run the file from where it was built: no copy on sixty disks."""
    host.run(str(NMK), *command, input=typed)


def test_one_of_sixty_moves_and_all_reach_it_after_two_check_ins(mesh: Mesh, unpacked: str) -> None:
    token = mesh.token("--uses", str(NODES))
    lans = [mesh.lab.lan(f"lan{n}", f"198.18.{n}.0/24", behind=mesh.internet) for n in range(LANS)]
    hosts = [mesh.lab.host(f"node{n}", on=lans[n % LANS]) for n in range(NODES)]

    def join(host: Host) -> None:
        host.run("mkdir", "-p", CACHE)
        host.run("mount", "--bind", unpacked, CACHE)
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
