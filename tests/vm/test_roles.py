"""Gateways, exit node and phone on the kernel's own WireGuard, and what is left of them."""

from __future__ import annotations

import pytest

from tests.e2e.traces import traces
from tests.gateways.phone import Phone, is_deaf, source_seen
from tests.gateways.sites import Site, give
from tests.lab import Host, Network
from tests.mesh import Mesh, has_interface, live_addresses, reaches

FAMILIES = (4, 6)


def check_in(*hosts: Host) -> None:
    for host in hosts:
        host.run("nmk", "checkin")


@pytest.fixture(scope="module")
def office(mesh: Mesh, untouched: Host) -> Site:
    """A LAN that bert's machine is in."""
    lan = mesh.lab.lan("office", "192.168.50.0/24", cidr6="fd50::/64")
    untouched.attach(lan, "192.168.50.2", "fd50::2")
    return Site(lan, untouched, mesh.lab.host("printer", on=lan))


@pytest.fixture(scope="module")
def before(office: Site) -> set[str]:
    """What the machine has before it joins."""
    return traces(office.gateway, program=True)


@pytest.fixture(scope="module")
def bert(before: set[str], bert: Host) -> Host:
    del before
    return bert


def test_a_lan_is_reached_by_its_gateway(mesh: Mesh, office: Site, bert: Host, anna: Host) -> None:
    give(mesh, "bert", *office.ranges)
    check_in(bert, anna)
    for family in FAMILIES:
        reaches(anna, office.address(family))


def test_the_exit_node_and_the_kill_switch(
    mesh: Mesh, cafe: Network, anna: Host, bert: Host
) -> None:
    assert cafe.router
    web = mesh.lab.host("web", on=mesh.internet)  # without nmk
    targets = (web.address, str(web.address6))
    mesh.admin("gateway", "add", "bert", "exit")
    check_in(bert, anna)
    anna.run("nmk", "set", "exit-node=bert", "kill-switch=on")
    seen = [source_seen(anna, web, target) for target in targets]
    assert seen == bert.links[0].addresses
    bert.run("nmk", "down")
    assert all(is_deaf(anna, target) for target in targets)
    check_in(anna)  # the controller is outside the tunnel
    anna.run("nmk", "down")
    assert all(is_deaf(anna, target) for target in targets)
    anna.run("nmk", "up")
    anna.run("nmk", "set", "exit-node=", "kill-switch=")
    bert.run("nmk", "up")
    seen = [source_seen(anna, web, target) for target in targets]
    assert seen == [cafe.router.address, anna.address6]


def test_a_phone_comes_in(mesh: Mesh, cafe: Network, anna: Host, bert: Host) -> None:
    mesh.admin("gateway", "add", "bert", "ingress")
    phone = Phone(mesh.lab.host("phone", on=cafe))
    phone.use(mesh.admin("extclient", "create", "phone", "--gateway", "bert"))
    check_in(bert, anna)
    for family in FAMILIES:
        reaches(phone.host, own_address(anna, family))
    phone.off()


def own_address(host: Host, family: int) -> str:
    return next(a for a in live_addresses(host) if (":" in a) == (family == 6))


def test_leaving_leaves_no_trace(bert: Host, before: set[str]) -> None:
    assert has_interface(bert)
    bert.run("nmk", "leave")
    assert traces(bert, program=True) == before
