"""From empty machines to a mesh that needs no controller."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import permutations

import pytest

from tests.lab import Host, Lab
from tests.mesh import Mesh, live_addresses, reaches

IPV4, IPV6 = "10.77.0.0/24", "fd77::/64"


def all_reach_all(hosts: Iterable[Host]) -> None:
    for source, target in permutations(hosts, 2):
        for address in live_addresses(target):
            reaches(source, address)


def as_listed(mesh: Mesh, hosts: Iterable[Host]) -> None:
    listed = {name: node["addresses"] for name, node in mesh.nodes().items()}
    assert listed == {host.name: live_addresses(host) for host in hosts}


@pytest.mark.parametrize(
    "ranges",
    [
        pytest.param((IPV4,), marks=pytest.mark.full, id="v4"),
        pytest.param((IPV6,), id="v6"),
        pytest.param((IPV4, IPV6), id="dual"),
    ],
)
def test_the_walk(ranges: tuple[str, ...]) -> None:
    with Lab() as lab:
        mesh = Mesh(lab, *ranges)
        hosts = mesh.members("anna", "bert", "cleo")
        assert all(len(live_addresses(host)) == len(ranges) for host in hosts)
        as_listed(mesh, hosts)
        all_reach_all(hosts)

        with mesh.stopped():
            all_reach_all(hosts)

        dora = mesh.join(mesh.machine("dora"))
        for host in hosts:
            host.run("nmk", "checkin")
        as_listed(mesh, [*hosts, dora])
        for host in hosts:
            for address in live_addresses(dora):
                reaches(host, address)


def test_an_underlay_without_ipv4() -> None:
    with Lab() as lab:
        mesh = Mesh(lab)
        anna, bert = mesh.machine("anna"), mesh.machine("bert")
        for host in (mesh.controller, anna, bert):
            host.run("ip", "-4", "address", "flush", "dev", "eth0")
        for host in (anna, bert):
            mesh.join(host)
        anna.run("nmk", "checkin")
        all_reach_all([anna, bert])


def test_a_reboot_needs_no_controller() -> None:
    with Lab() as lab:
        mesh = Mesh(lab)
        anna, bert = mesh.members("anna", "bert")
        mesh.stop()
        bert.reboot()
        assert bert.run("nmk", "checkin", check=False).returncode == 75
        all_reach_all([anna, bert])
        anna.reboot()
        anna.run("nmk", "up")
        all_reach_all([anna, bert])
