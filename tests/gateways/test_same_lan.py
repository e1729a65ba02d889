"""LANs as they are: two offices that both use 192.168.1.0/24, and a LAN behind a plain router."""

from __future__ import annotations

import socket
from typing import NamedTuple

import pytest

from tests.gateways.phone import FILE, Phone, make_ingress
from tests.gateways.sites import (
    FAMILIES,
    Site,
    check_in,
    commands,
    exchange,
    give,
    is_deaf,
    mesh_ranges,
    routed,
    snapshot,
    source_seen,
    status,
    take,
    told,
)
from tests.lab import Host, patient
from tests.mesh import Mesh, reaches

LAN = {4: "192.168.1.0/24", 6: "fd01::/64"}
NORTH = {4: "10.201.0.0/24", 6: "fd77:0:0:1::/64"}
SOUTH = {4: "10.201.1.0/24", 6: "fd77:0:0:2::/64"}
PRINTER = {4: "10", 6: ":10"}  # the end of its address


class Offices(NamedTuple):
    """Both have a printer at 192.168.1.10; a node, a phone and a router elsewhere."""

    mesh: Mesh
    north: Site
    south: Site
    viewer: Host
    phone: Phone
    router: Phone
    behind: Host

    @property
    def members(self) -> tuple[Host, ...]:
        return self.north.gateway, self.south.gateway, self.viewer


def office(mesh: Mesh, name: str) -> Site:
    """An office: its gateway has joined, and its printer is where all printers are."""
    lan = mesh.lab.lan(name, LAN[4], cidr6=LAN[6])
    gateway = mesh.machine(f"gateway-{name}")
    gateway.attach(lan, "192.168.1.2", "fd01::2")
    printer = mesh.lab.host(f"printer-{name}", on=lan, address="192.168.1.10", address6="fd01::10")
    return Site(lan, mesh.join(gateway), printer)


def seen(ranges: dict[int, str], family: int, host: str = "10") -> str:
    """The address that the network sees of a host of an office."""
    return ranges[family].split("/")[0].removesuffix("0" if family == 4 else "") + host


@pytest.fixture(scope="module")
def offices(mesh: Mesh) -> Offices:
    north, south = office(mesh, "north"), office(mesh, "south")
    viewer = make_ingress(mesh, mesh.join(mesh.machine("viewer")))
    for site, ranges, nat in ((north, NORTH, "auto"), (south, SOUTH, "off")):
        for family in FAMILIES:
            words = (LAN[family], "--as", ranges[family], "--nat", nat)
            give(mesh, site.gateway.name, *words)
    home = mesh.lab.lan("home", LAN[4], nat="port-restricted", behind=mesh.internet)
    phone = Phone(mesh.lab.host("phone", on=home))
    shop = mesh.lab.lan("shop", "192.168.50.0/24", cidr6="fd50::/64")
    router = Phone(mesh.lab.host("router", on=mesh.internet))
    router.host.attach(shop, "192.168.50.1", "fd50::1")
    behind = mesh.lab.host("till", on=shop)
    for family, ip in ((4, "192.168.50.1"), (6, "fd50::1")):
        behind.run("ip", f"-{family}", "route", "add", "default", "via", ip)
        forwarding = {4: "net.ipv4.ip_forward=1", 6: "net.ipv6.conf.all.forwarding=1"}
        router.host.run("sysctl", "-qw", forwarding[family])
    made = mesh.admin("extclient", "create", "router", "--routes", "192.168.50.0/24,fd50::/64")
    router.use(made)
    phone.use(mesh.admin("extclient", "create", "phone"))
    world = Offices(mesh, north, south, viewer, phone, router, behind)
    check_in(*world.members)
    everywhere = (*mesh_ranges(mesh), *NORTH.values(), *SOUTH.values(), *shop_ranges())
    for site, own in ((north, NORTH), (south, SOUTH)):
        site.lead_to(*(cidr for cidr in everywhere if cidr not in own.values()))
    return world


def shop_ranges() -> tuple[str, str]:
    return "192.168.50.0/24", "fd50::/64"


def printer(site: Site, family: int) -> str:
    """A printer's address in its own LAN."""
    return site.address(family)


# Who reaches whom, and is seen as what


@pytest.mark.parametrize("family", FAMILIES)
def test_a_node_reaches_the_printer_that_it_means(offices: Offices, family: int) -> None:
    mesh, north, south = offices.mesh, offices.north, offices.south
    assert printer(north, family) == printer(south, family)
    came = source_seen(offices.viewer, north.host, printer(north, family), seen(NORTH, family))
    assert came == north.gateway_address(family)  # with NAT
    came = source_seen(offices.viewer, south.host, printer(south, family), seen(SOUTH, family))
    assert came == mesh.address("viewer", family)  # without
    assert is_deaf(offices.viewer, printer(north, family))


@pytest.mark.parametrize("family", FAMILIES)
def test_two_offices_of_one_range_reach_each_other(offices: Offices, family: int) -> None:
    north, south = offices.north, offices.south
    reaches(north.host, seen(SOUTH, family))
    reaches(south.host, seen(NORTH, family))
    there = printer(south, family)
    assert source_seen(north.host, south.host, there, seen(SOUTH, family)) == seen(NORTH, family)
    came = source_seen(south.host, north.host, there, seen(NORTH, family))
    assert came == north.gateway_address(family)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_host_of_an_office_begins_under_its_mapped_address(offices: Offices, family: int) -> None:
    address = offices.mesh.address("viewer", family)
    for site, ranges in ((offices.north, NORTH), (offices.south, SOUTH)):
        assert source_seen(site.host, offices.viewer, address) == seen(ranges, family)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_phone_in_such_a_lan_reaches_both(offices: Offices, family: int) -> None:
    for ranges in (NORTH, SOUTH):
        reaches(offices.phone.host, seen(ranges, family))


@pytest.mark.parametrize("family", FAMILIES)
def test_a_node_in_such_a_lan_reaches_the_other_one(offices: Offices, family: int) -> None:
    mesh, north = offices.mesh, offices.north
    if "desk" not in mesh.lab.hosts:
        desk = mesh.machine("desk")
        desk.attach(north.lan, "192.168.1.77", "fd01::77")
        mesh.join(desk)
        check_in(*offices.members)
    desk = mesh.lab.hosts["desk"]
    reaches(desk, seen(SOUTH, family))
    reaches(desk, seen(NORTH, family))
    assert (
        source_seen(desk, north.host, printer(north, family))
        == {
            4: "192.168.1.77",
            6: "fd01::77",
        }[family]
    )


# What is begun goes on


def test_a_connection_outlives_a_new_filter(offices: Offices) -> None:
    mesh, south = offices.mesh, offices.south
    gateway = south.gateway
    with (
        south.host.socket(socket.SOCK_STREAM) as listener,
        offices.viewer.socket(socket.SOCK_STREAM) as caller,
    ):
        listener.bind((printer(south, 4), 0))
        listener.listen()
        for end in (listener, caller):
            end.settimeout(patient(10))
        caller.connect((seen(SOUTH, 4), listener.getsockname()[1]))
        callee, peer = listener.accept()
        with callee:
            callee.settimeout(patient(10))
            for step in range(4):
                caller.sendall(b"%d" % step)
                assert callee.recv(1) == b"%d" % step
                callee.sendall(b"back")
                assert caller.recv(4) == b"back"
                if step % 2:
                    take(mesh, gateway.name, "172.20.0.0/16")
                else:
                    give(mesh, gateway.name, "172.20.0.0/16")
                assert any("nft" in line for line in commands(gateway))
        assert peer[0] == mesh.address("viewer", 4)


def test_large_segments_pass_both_ways(offices: Offices) -> None:
    south = offices.south
    exchange(offices.viewer, south.host, printer(south, 4), 300_000, called=seen(SOUTH, 4))


# A LAN behind a plain router


@pytest.mark.parametrize("family", FAMILIES)
def test_what_is_behind_a_router_is_reached_and_reaches(offices: Offices, family: int) -> None:
    mesh, till = offices.mesh, offices.behind
    address = {4: till.address, 6: till.address6}[family]
    assert address
    for other in (offices.viewer, offices.north.gateway, offices.phone.host):
        reaches(other, address)
    assert source_seen(till, offices.viewer, mesh.address("viewer", family)) == address
    reaches(till, mesh.address("gateway-north", family))
    reaches(till, seen(NORTH, family))
    reaches(till, seen(SOUTH, family))
    south = offices.south
    assert source_seen(till, south.host, printer(south, family), seen(SOUTH, family)) == address
    assert source_seen(south.host, till, address) == seen(SOUTH, family)


def test_a_routers_config_does_not_lead_its_own_lan_away(offices: Offices) -> None:
    config = offices.router.host.read(FILE)
    [line] = [line for line in config.splitlines() if line.startswith("AllowedIPs")]
    assert set(line.removeprefix("AllowedIPs = ").split(", ")) == {
        *mesh_ranges(offices.mesh),
        *NORTH.values(),
        *SOUTH.values(),
    }


# What is shown


def test_both_ends_say_what_is_mapped(offices: Offices) -> None:
    shown = status(offices.north.gateway)
    assert shown["mapped"] == {NORTH[f]: LAN[f] for f in FAMILIES}
    routes = {
        r["range"]: (r["gateway"], r["lan"], r["client"]) for r in status(offices.viewer)["routes"]
    }
    assert routes[SOUTH[4]] == ("gateway-south", LAN[4], None)
    assert routes["192.168.50.0/24"] == ("viewer", None, "router")
    listed = offices.mesh.admin("gateway", "list")
    assert f"{LAN[4]} as {NORTH[4]}, {LAN[6]} as {NORTH[6]}" in listed


def test_a_check_in_that_finds_nothing_new_runs_no_command(offices: Offices) -> None:
    for host in (offices.north.gateway, offices.viewer):
        check_in(host)
        assert commands(host) == []


# One LAN, two gateways


def test_a_second_gateway_of_a_mapped_lan_stands_in(offices: Offices) -> None:
    mesh, north = offices.mesh, offices.north
    second = mesh.machine("second")
    second.attach(north.lan, "192.168.1.3", "fd01::3")
    mesh.join(second)
    words = (LAN[4], "--as", NORTH[4])
    command = ("nmk", "gateway", "add", "second", "egress", *words)
    refused = mesh.controller.run(*command, check=False)
    assert refused.returncode == 1
    assert f"{' '.join(command[:3])} -n home second egress {' '.join(words)} --same-lan" in (
        refused.stderr
    )
    give(mesh, "second", *words, "--same-lan", "--metric", "200")
    check_in(second, offices.viewer)
    [route] = [r for r in status(offices.viewer)["routes"] if r["range"] == NORTH[4]]
    assert (route["gateway"], route["standby"]) == ("gateway-north", ["second"])
    take(mesh, "gateway-north", NORTH[4])
    check_in(*offices.members, second)
    assert routed(offices.viewer)[NORTH[4]] == "second"
    came = source_seen(offices.viewer, north.host, printer(north, 4), seen(NORTH, 4))
    assert came == "192.168.1.3"
    give(mesh, "gateway-north", *words, "--same-lan")
    take(mesh, "second")
    check_in(*offices.members, second)


UNSAY = """
import json, sqlite3
database = sqlite3.connect("/var/lib/nmk/server/nmk.db")
for identity, text in database.execute("SELECT identity, gateway FROM nodes").fetchall():
    gateway = json.loads(text)
    gateway.get("egress", {}).pop("same_lan", None)
    row = json.dumps(gateway), identity
    database.execute("UPDATE nodes SET gateway = ? WHERE identity = ?", row)
database.commit()
"""


def test_a_group_of_before_goes_on_and_doctor_asks_one_of_it(offices: Offices) -> None:
    """nmk 0.2.0 took two gateways of one range for gateways of one LAN."""
    mesh, gateways = offices.mesh, (offices.north.gateway, offices.south.gateway)
    for gateway in gateways:
        give(mesh, gateway.name, "172.30.0.0/16", "--same-lan")
    with mesh.stopped():
        mesh.controller.run("python3", "-c", UNSAY)
    mesh.admin("gateway", "add", "gateway-north", "egress", "--metric", "50")
    mesh.admin("gateway", "add", "gateway-south", "egress", "--metric", "60")
    check_in(*offices.members)
    assert routed(offices.viewer)["172.30.0.0/16"] == "gateway-north"
    question = "gateway-north and gateway-south both route 172.30.0.0/16: is that the same LAN?"
    asked = [told(gateway, "gateway")["reason"] == question for gateway in gateways]
    assert asked == [False, True]
    assert question in mesh.controller.run("nmk", "gateway", "list").stderr
    give(mesh, "gateway-south", "172.30.0.0/16", "--same-lan")
    check_in(*offices.members)
    assert told(gateways[1], "gateway")["level"] == "ok"
    assert "same LAN" not in mesh.controller.run("nmk", "gateway", "list").stderr
    for gateway in gateways:
        take(mesh, gateway.name, "172.30.0.0/16")


# And all is gone again


def test_nothing_is_left_of_it(offices: Offices) -> None:
    gateway = offices.south.gateway
    take(offices.mesh, gateway.name)
    check_in(gateway)
    assert "prefix" not in gateway.run("nft", "list", "ruleset").stdout
    gateway.run("nmk", "leave")
    assert not [line for line in snapshot(gateway) if "nmk-home" in line]
