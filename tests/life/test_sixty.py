"""Sixty real nodes on one machine: one moves, and all find it again."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

import pytest

from tests.lab import Host, Lab, poll
from tests.mesh import Mesh

NODES = 60
CACHE = "/var/cache/nmk"
NEW_ADDRESS = "198.51.100.77"
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
def unpacked(mesh: Mesh, tmp_path: Path) -> Path:
    """What the file has unpacked on the controller's host: sixty times would be most of the work.

    Hosts see the machine's /tmp, and the controller's disk does not change any more.
    """
    shutil.copytree(f"/proc/{mesh.controller.pid}/root{CACHE}", tmp_path / "cache", symlinks=True)
    return tmp_path / "cache"


def test_one_of_sixty_moves_and_all_reach_it_after_two_check_ins(
    mesh: Mesh, unpacked: Path
) -> None:
    token = mesh.token("--uses", str(NODES))
    hosts = [mesh.machine(f"node{number}") for number in range(NODES)]

    def join(host: Host) -> None:
        host.run("mkdir", "-p", CACHE)
        host.run("mount", "--bind", str(unpacked), CACHE)
        mesh.join(host, token=token)

    def check_in(host: Host) -> None:
        host.run("nmk", "checkin")

    everywhere(hosts, join)
    everywhere(hosts, check_in)
    moved, others = hosts[0], hosts[1:]
    address = mesh.address("node0")

    def reaches_it(host: Host) -> bool:
        return host.run("ping", "-n", "-c1", "-W1", address, check=False).returncode == 0

    def all_reach_it() -> bool:
        return all(everywhere(others, reaches_it))

    poll(all_reach_it, 60, "node that all reach")
    before = [host.read(INDEX) for host in hosts]
    moved.readdress(mesh.internet, NEW_ADDRESS)
    check_in(moved)
    everywhere(others, check_in)
    check_in(moved)
    poll(all_reach_it, 60, "node that all reach at its new address")
    assert all(
        NEW_ADDRESS in host.run("wg", "show", "nmk-home", "endpoints").stdout for host in others
    )
    assert [host.read(INDEX) for host in hosts] == before
