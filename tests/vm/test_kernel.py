"""The mesh on the kernel's own WireGuard.

What differs from wireguard-go, which all other tests have: there is no process and no socket, so
what makes an interface and what it leaves differ; the interface keeps its queue of packets and its
sessions while it is changed; a reboot takes it away without a trace.
"""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from tests.gateways.phone import Phone, is_deaf, source_seen
from tests.gateways.sites import give, make_site
from tests.lab import Host, Lab, Network
from tests.mesh import (
    INTERFACE,
    Mesh,
    failure,
    has_interface,
    live_addresses,
    live_peers,
    reaches,
)

FAMILIES = (4, 6)


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    with Lab() as lab:
        yield lab


@pytest.fixture(scope="module")
def mesh(lab: Lab) -> Mesh:
    return Mesh(lab, "10.77.0.0/16", "fd77::/64")


@pytest.fixture(scope="module")
def web(mesh: Mesh) -> Host:
    """A host of the internet that has no nmk."""
    return mesh.lab.host("web", on=mesh.internet)


@pytest.fixture(scope="module")
def cafe(mesh: Mesh) -> Network:
    """A LAN behind a router that translates addresses."""
    ranges = ("192.168.1.0/24", "2001:db8:1::/64")
    return mesh.lab.lan(
        "cafe", ranges[0], cidr6=ranges[1], nat="port-restricted", behind=mesh.internet
    )


@pytest.fixture(scope="module")
def anna(mesh: Mesh, cafe: Network) -> Host:
    return mesh.join(mesh.machine("anna", on=cafe))


@pytest.fixture(scope="module")
def bert(mesh: Mesh, anna: Host) -> Host:
    bert = mesh.join(mesh.machine("bert"))
    check_in(anna)
    return bert


def check_in(*hosts: Host) -> None:
    for host in hosts:
        host.run("nmk", "checkin")


def link(host: Host) -> dict[str, object]:
    """What `ip` shows of the interface."""
    [shown] = json.loads(host.run("ip", "-j", "-d", "link", "show", "dev", INTERFACE).stdout)
    assert isinstance(shown, dict)
    return shown


def key_of(host: Host) -> str:
    return host.run("wg", "show", INTERFACE, "public-key").stdout.strip()


def address(host: Host, family: int = 4) -> str:
    """Its own in the network."""
    return next(a for a in live_addresses(host) if (":" in a) == (family == 6))


def received(host: Host, peer: Host) -> int:
    """Bytes since the interface was made: a peer that is made anew begins at none."""
    return int(live_peers(host, "transfer")[key_of(peer)].split("\t")[0])


def test_the_kernel_carries_the_tunnel(anna: Host, bert: Host) -> None:
    for host in (anna, bert):
        assert link(host)["linkinfo"] == {"info_kind": "wireguard"}
        assert host.run("sh", "-c", "command -v wireguard-go", check=False).returncode
    for family in FAMILIES:
        reaches(anna, address(bert, family))
        reaches(bert, address(anna, family))


def test_changes_keep_the_interface_and_its_sessions(mesh: Mesh, anna: Host, bert: Host) -> None:
    reaches(anna, address(bert))
    number, before = link(anna)["ifindex"], received(anna, bert)
    assert before
    handshake = live_peers(anna, "latest-handshakes")[key_of(bert)]
    cleo = mesh.join(mesh.machine("cleo"))
    mesh.admin("network", "set", "home", "mtu=1380")
    check_in(anna, cleo)
    assert (link(anna)["ifindex"], link(anna)["mtu"]) == (number, 1380)
    assert received(anna, bert) >= before
    assert live_peers(anna, "latest-handshakes")[key_of(bert)] >= handshake
    reaches(anna, address(cleo))
    assert "[#]" not in anna.run("nmk", "checkin", "-v").stderr
    cleo.run("nmk", "leave")
    check_in(anna)
    assert list(live_peers(anna, "endpoints")) == [key_of(bert)]


def test_peers_follow_a_machine_that_moves(
    mesh: Mesh, cafe: Network, anna: Host, bert: Host
) -> None:
    reaches(anna, address(bert))
    numbers = [link(host)["ifindex"] for host in (anna, bert)]
    anna.readdress(cafe, "192.168.1.77")
    reaches(anna, address(bert))  # bert's WireGuard follows by itself
    bert.readdress(mesh.internet, "203.0.113.99", "2001:db8::99")
    check_in(bert, anna)
    reaches(anna, address(bert, 6))
    assert live_peers(anna, "endpoints")[key_of(bert)].startswith(
        ("203.0.113.99:", "[2001:db8::99]:")
    )
    assert [link(host)["ifindex"] for host in (anna, bert)] == numbers


def test_a_lan_is_reached_by_its_gateway(mesh: Mesh, anna: Host) -> None:
    office = make_site(mesh, "office", 50)
    give(mesh, office.gateway.name, *office.ranges)
    check_in(office.gateway, anna)
    for family in FAMILIES:
        reaches(anna, office.address(family))


def test_the_exit_node_and_the_kill_switch(
    mesh: Mesh, cafe: Network, anna: Host, bert: Host, web: Host
) -> None:
    assert cafe.router
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
        reaches(phone.host, address(anna, family))
    phone.off()


def test_a_reboot_needs_no_controller(mesh: Mesh, anna: Host, bert: Host) -> None:
    there = address(bert)
    check_in(anna)
    with mesh.stopped():
        anna.reboot()
        assert not has_interface(anna)
        assert failure(anna, "checkin").exit_code == 75
        reaches(anna, there)
