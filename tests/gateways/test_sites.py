"""Egress gateways: ranges outside the network, and what becomes of them on every machine."""

from __future__ import annotations

import json
import re
from typing import NamedTuple

import pytest

from tests.gateways.sites import (
    FAMILIES,
    LEFT,
    PORT,
    Site,
    check_in,
    commands,
    exchange,
    follow_ways_back,
    gateways_of,
    give,
    is_deaf,
    key_of,
    left_out,
    make_site,
    mesh_ranges,
    routed,
    snapshot,
    source_seen,
    status,
    take,
)
from tests.lab import Host, poll
from tests.mesh import INTERFACE, Mesh, failure, live_peers, reaches
from tests.mesh import PORT as CONTROLLER

LARGE = 1_000_000  # bytes
PUBLIC = "203.0.113.0/24"  # where the lab's machines are by default
OTHER_PUBLIC = "198.51.100.0/24"
FORWARDING = "/proc/sys/net/ipv4/ip_forward"
NO_NFT = "nft is not installed: without it this machine can be no gateway and use no exit node"
# Path MTU discovery cannot help (RFC 2923, 2.1).
NO_DISCOVERY = """
table inet deaf {
    chain input {
        type filter hook input priority filter
        icmp type destination-unreachable icmp code frag-needed drop
        icmpv6 type packet-too-big drop
    }
}
"""
PUBLISHED = """
table ip theirs {{
    chain published {{
        type nat hook prerouting priority dstnat
        {}
    }}
}}
"""
# That its sender is a router for 1800 s, to all of the LAN (RFC 4861, 4.2).
ADVERTISE = """
from socket import *
sender = socket(AF_INET6, SOCK_RAW, IPPROTO_ICMPV6)
sender.setsockopt(IPPROTO_IPV6, IPV6_MULTICAST_HOPS, 255)
to = ("ff02::1", 0, 0, if_nametoindex("eth0"))
sender.sendto(bytes.fromhex("86000000400007080000000000000000"), to)
"""


DAMAGES = {
    "packet filter": [
        "nft delete table inet nmk-home",
        "nft flush chain inet nmk-home forward",
        "nft insert rule inet nmk-home forward accept",
        "nft flush chain inet nmk-home postrouting",
        "nft add chain inet nmk-home more",
        "rm /run/nmk/home.ruleset",
    ],
    "routes": [
        "ip rule del priority 20002",
        "ip rule del priority 20003",
        "ip -6 rule del priority 20003",
        "ip route flush table 7236973",
        "ip -6 route flush table 7236973",
        "ip route add 192.168.99.0/24 dev nmk-home table 7236973",
    ],
    "settings": [
        "sysctl net.ipv4.ip_forward=0",
        "sysctl net.ipv6.conf.all.forwarding=0",
        "sysctl net.ipv4.conf.all.src_valid_mark=0",
    ],
}


class World(NamedTuple):
    """Two sites, and a node elsewhere."""

    mesh: Mesh
    a: Site
    b: Site
    viewer: Host

    @property
    def members(self) -> tuple[Host, Host, Host]:
        return self.a.gateway, self.b.gateway, self.viewer

    @property
    def are_joined(self) -> bool:
        """Whether both sites, and nobody else, have their roles, with NAT."""
        found = {(r["node"], *r["ranges"], r["nat"]) for r in gateways_of(self.mesh)}
        return found == {(s.gateway.name, *s.ranges, "auto") for s in (self.a, self.b)}

    def join_sites(self, *options: str) -> str:
        """Both gateways get their roles, one after the other; what the commands told."""
        told = [give(self.mesh, s.gateway.name, *s.ranges, *options) for s in (self.a, self.b)]
        check_in(*self.members)
        return "".join(told)

    def part_sites(self) -> None:
        """Nobody is a gateway any more."""
        for gateway in {row["node"] for row in gateways_of(self.mesh)}:
            take(self.mesh, gateway)
        for site in (self.a, self.b):
            site.forget_ways()
        check_in(*self.members)


@pytest.fixture(scope="module")
def world(mesh: Mesh) -> World:
    viewer = mesh.join(mesh.machine("viewer", address="198.51.100.7"))
    return World(mesh, make_site(mesh, "a", 50), make_site(mesh, "b", 60), viewer)


@pytest.fixture
def apart(world: World) -> World:
    """No gateway at all."""
    world.part_sites()
    return world


@pytest.fixture
def joined(world: World) -> World:
    """Both sites joined, with NAT, and their hosts know the way."""
    if world.are_joined:
        check_in(*world.members)
        return world
    world.part_sites()
    world.join_sites("--nat", "auto")
    for one, other in ((world.a, world.b), (world.b, world.a)):
        one.lead_to(*other.ranges, *mesh_ranges(world.mesh))
    return world


def host_at(world: World, name: str, number: int) -> Host:
    """A host on one more LAN of site a's gateway, that no role leads to."""
    lan = world.mesh.lab.lan(name, f"192.168.{number}.0/24")
    world.a.gateway.attach(lan, f"192.168.{number}.2")
    host = world.mesh.lab.host(name, on=lan)
    host.run("ip", "route", "add", "default", "via", f"192.168.{number}.2")
    return host


def join_second(mesh: Mesh, host: Host) -> None:
    """The host joins one more network, `second`."""
    if "second" not in {n["name"] for n in mesh.json("network", "list")}:
        mesh.admin("network", "create", "second", "10.99.0.0/16", "fd99::/64")
    mesh.join(host, token=mesh.admin("key", "create", "-n", "second").strip())


# Packets find their way


@pytest.mark.parametrize("family", FAMILIES)
def test_hosts_of_two_sites_reach_each_other(joined: World, family: int) -> None:
    for one, other in ((joined.a, joined.b), (joined.b, joined.a)):
        reaches(one.host, other.address(family))
        seen = source_seen(one.host, other.host, other.address(family))
        assert seen == other.gateway_address(family)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_node_elsewhere_reaches_hosts_which_see_the_gateway(joined: World, family: int) -> None:
    for site in (joined.a, joined.b):
        reaches(joined.viewer, site.address(family))
        seen = source_seen(joined.viewer, site.host, site.address(family))
        assert seen == site.gateway_address(family)
    reaches(joined.a.host, joined.mesh.address("viewer", family))


@pytest.mark.parametrize("family", FAMILIES)
def test_large_segments_are_made_to_fit_the_tunnel(joined: World, family: int) -> None:
    for site in (joined.a, joined.b):
        site.host.run("nft", "-f", "-", input=NO_DISCOVERY)
    exchange(joined.a.host, joined.b.host, joined.b.address(family), LARGE)
    exchange(joined.viewer, joined.a.host, joined.a.address(family), LARGE)
    for site in (joined.a, joined.b):
        site.host.run("nft", "flush", "ruleset")


def test_without_nat_hosts_need_the_routes_that_were_told_and_no_other(apart: World) -> None:
    told = apart.join_sites("--nat", "off")
    follow_ways_back(told, [apart.a, apart.b])
    for family in FAMILIES:
        reaches(apart.viewer, apart.a.address(family))
        reaches(apart.b.host, apart.mesh.address("viewer", family))
        reaches(apart.a.host, apart.b.address(family), 5)
        reaches(apart.b.host, apart.a.address(family), 5)


def test_without_nat_hosts_see_who_calls(apart: World) -> None:
    told = apart.join_sites("--nat", "off")
    lines = follow_ways_back(told, [apart.a, apart.b])
    assert len(lines) == len(set(lines)) == 8
    for family in FAMILIES:
        for one, other in ((apart.a, apart.b), (apart.b, apart.a)):
            seen = source_seen(one.host, other.host, other.address(family))
            assert seen == one.address(family)
        viewer = apart.mesh.address("viewer", family)
        assert source_seen(apart.viewer, apart.a.host, apart.a.address(family)) == viewer
        reaches(apart.b.host, viewer)
        exchange(apart.a.host, apart.b.host, apart.b.address(family), LARGE)


# And no other


def test_a_gateway_forwards_nothing_but_what_its_roles_are_for(joined: World) -> None:
    viewer, gateway, mesh = joined.viewer, joined.a.gateway, joined.mesh
    hidden = host_at(joined, "hidden", 70)
    web = mesh.lab.host("web", on=mesh.internet)
    web.route(mesh_ranges(mesh)[0], gateway.address)
    behind = [hidden.address, web.address, mesh.address(joined.b.gateway.name)]
    wanted = [*live_peers(viewer, "allowed-ips")[key_of(gateway)].split(), *behind]
    viewer.run("wg", "set", INTERFACE, "peer", key_of(gateway), "allowed-ips", ",".join(wanted))
    for address in behind:
        viewer.run("ip", "route", "replace", address, "dev", INTERFACE)
    reaches(viewer, joined.a.address(4))
    for address in behind:
        assert is_deaf(viewer, address)

    gateway.run("nft", "flush", "chain", "inet", "nmk-home", "forward")
    for address in behind[:2]:
        reaches(viewer, address)  # but for our rules
    check_in(gateway)
    for address in behind:
        assert is_deaf(viewer, address)
        viewer.run("ip", "route", "del", address, "dev", INTERFACE)
    check_in(viewer)


def test_what_the_gateway_publishes_itself_stays_so(joined: World) -> None:
    published = host_at(joined, "published", 71)
    gateway, mesh = joined.a.gateway, joined.mesh
    rule = f"udp dport {PORT} dnat to {published.address}"
    gateway.run("nft", "-f", "-", input=PUBLISHED.format(rule))
    viewer, stranger = joined.viewer, mesh.lab.host("stranger", on=mesh.internet)
    for caller, address, own in (
        (viewer, mesh.address(gateway.name), mesh.address(viewer.name)),
        (stranger, gateway.address, stranger.address),
    ):
        assert source_seen(caller, published, published.address, called=address) == own
    gateway.run("nft", "delete", "table", "ip", "theirs")


# A machine's own LAN


@pytest.mark.parametrize(
    "own", [pytest.param("192.168.50.0/24", marks=pytest.mark.full), "192.168.0.0/16"]
)
def test_the_lan_that_a_machine_is_in_stays_its_own_until_it_is_elsewhere(
    joined: World, own: str
) -> None:
    mesh, gateway = joined.mesh, joined.a.gateway
    name = f"roamer-{own.rpartition('/')[2]}"
    cafe = mesh.lab.lan(f"cafe-of-{name}", own, nat="port-restricted", behind=mesh.internet)
    roamer = mesh.join(mesh.machine(name, on=cafe, address="192.168.50.201"))
    address = joined.a.address(4)  # of somebody here and of somebody there
    neighbour = mesh.lab.host(f"neighbour-of-{name}", on=cafe, address=address)
    check_in(*joined.members, roamer)
    reaches(roamer, address)
    assert source_seen(roamer, neighbour, address) == roamer.address
    reaches(roamer, joined.b.address(6))

    reasons = {route["range"]: route["reason"] for route in status(roamer)["routes"]}
    here = f"eth0 has {own}"
    assert reasons == {
        "192.168.50.0/24": here,
        "192.168.60.0/24": None if own.endswith("/24") else here,
        "fd50::/64": None,
        "fd60::/64": None,
    }
    decline = {"range": "192.168.50.0/24", "node": name, "subnet": own}
    assert decline in status(gateway)["declined"]
    assert (name, "192.168.50.0/24", own) in left_out(mesh)
    told = mesh.controller.run("nmk", "gateway", "list", "-n", "home").stderr
    assert f"{name} leaves out 192.168.50.0/24 of {gateway.name}: it is in {own} itself" in told

    roamer.run("nmk", "down")  # or wireguard-go sends from the old address for 15 s
    roamer.unplug(cafe)
    roamer.run("ip", "address", "flush", "dev", "eth0")  # as a DHCP client does
    roamer.attach(mesh.internet)
    roamer.run("nmk", "up")
    check_in(roamer, gateway)
    reaches(roamer, address)
    assert source_seen(roamer, joined.a.host, address) == joined.a.gateway_address(4)
    for site in (joined.a, joined.b):
        assert set(site.ranges) <= routed(roamer).keys()
        assert {routed(roamer)[cidr] for cidr in site.ranges} == {site.gateway.name}
    assert name not in str(status(gateway)["declined"])
    assert name not in str(left_out(mesh))
    roamer.run("nmk", "leave")
    check_in(*joined.members)


def test_a_smaller_lan_stays_a_machines_own_and_the_rest_is_routed(world: World) -> None:
    mesh = world.mesh
    wide = make_site(mesh, "wide", 20)
    give(mesh, wide.gateway.name, "192.168.16.0/20")
    flat = mesh.lab.lan("flat", "192.168.21.0/24", nat="port-restricted", behind=mesh.internet)
    lodger = mesh.join(mesh.machine("lodger", on=flat))
    neighbour = mesh.lab.host("neighbour", on=flat)
    check_in(wide.gateway, lodger)
    assert routed(lodger)["192.168.16.0/20"] == wide.gateway.name
    reaches(lodger, wide.address(4))
    assert source_seen(lodger, wide.host, wide.address(4)) == wide.gateway_address(4)
    reaches(lodger, neighbour.address)
    assert source_seen(lodger, neighbour, neighbour.address) == lodger.address
    assert status(wide.gateway)["declined"] == []
    for host in (lodger, wide.gateway):
        host.run("nmk", "leave")


# A range that holds endpoints


def test_a_range_that_holds_the_gateways_own_endpoint_does_not_swallow_the_tunnel(
    apart: World,
) -> None:
    mesh, gateway, viewer = apart.mesh, apart.a.gateway, apart.viewer
    shop = mesh.lab.host("shop", on=mesh.internet)
    be_strict(viewer)
    assert source_seen(viewer, shop, shop.address) == viewer.address
    give(mesh, gateway.name, PUBLIC)
    check_in(*apart.members)
    assert routed(viewer) == {PUBLIC: gateway.name}
    assert routed(apart.b.gateway) == {PUBLIC: None}
    assert source_seen(viewer, shop, shop.address) == gateway.address
    reaches(viewer, shop.address)

    def all_is_well() -> None:
        check_in(viewer)
        for name in (gateway.name, apart.b.gateway.name):
            reaches(viewer, mesh.address(name))
        reaches(viewer, shop.address)

    all_is_well()
    viewer.run("nmk", "down")
    viewer.run("nmk", "up")
    all_is_well()
    viewer.reboot()
    be_strict(viewer)
    all_is_well()
    assert viewer.read("/proc/sys/net/ipv4/conf/all/rp_filter") == "1\n"


def test_a_peer_in_a_range_can_call_first(apart: World) -> None:
    """Without keepalives nothing has gone out to it that the kernel could tell its packets by."""
    mesh, viewer = apart.mesh, apart.viewer
    give(mesh, apart.a.gateway.name, PUBLIC)
    mesh.admin("network", "set", "home", "keepalive=0")
    check_in(*apart.members)
    viewer.reboot()
    be_strict(viewer)
    check_in(viewer)
    try:
        reaches(apart.b.gateway, mesh.address("viewer"))  # which knows nothing of the old session
    finally:
        mesh.admin("network", "set", "home", "keepalive=25")


def test_nodes_in_a_range_reach_the_controller_on_a_machine_that_follows_it(apart: World) -> None:
    mesh, viewer = apart.mesh, apart.viewer
    far = mesh.join(mesh.machine("far", address="198.51.100.30"))
    mesh.join(mesh.controller)
    give(mesh, far.name, OTHER_PUBLIC)
    check_in(far, mesh.controller)
    assert routed(mesh.controller) == {OTHER_PUBLIC: "far"}
    try:
        url = f"http://{mesh.controller.address}:{CONTROLLER}/"
        viewer.run("curl", "--silent", "--show-error", "--max-time", "5", url)
    finally:
        mesh.controller.run("nmk", "leave")
        far.run("nmk", "leave", "--force")


def be_strict(host: Host) -> None:
    for name in ("all", "default", "eth0"):
        host.run("sysctl", "-q", f"net.ipv4.conf.{name}.rp_filter=1")


# Changes


def test_a_static_route_goes_before_a_range_and_the_doctor_says_which(joined: World) -> None:
    viewer, wide, site = joined.viewer, "192.168.0.0/16", joined.a
    reaches(viewer, site.address(4))
    viewer.run("ip", "route", "add", wide, "dev", "eth0")
    assert is_deaf(viewer, site.address(4))
    viewer.run("nmk", "checkin")
    told = json.loads(viewer.run("nmk", "doctor", "-o", "json").stdout)
    taken = {f["reason"]: f["mend"] for f in told if f["check"] == "gateway" and f["mend"]}
    assert set(taken) == {
        f"{s.ranges[0]} does not go by {s.gateway.name}: this machine has a route to {wide} by eth0"
        for s in (joined.a, joined.b)
    }
    [mend] = {mend.partition(";")[0] for mend in taken.values()}
    viewer.run(*mend.split())
    reaches(viewer, site.address(4))
    assert "does not go by" not in viewer.run("nmk", "doctor").stdout


def test_a_machine_may_follow_no_range(joined: World) -> None:
    mesh = joined.mesh
    hermit = mesh.join(mesh.machine("hermit"))
    shy = mesh.join(mesh.machine("shy"))
    shy.run("nmk", "set", "accept-routes=off")
    check_in(*joined.members, hermit, shy)
    reaches(hermit, joined.a.address(4))
    assert is_deaf(shy, joined.a.address(4))
    routes = status(shy)["routes"]
    assert {(r["gateway"], r["reason"]) for r in routes} == {(None, "accept-routes is off")}
    assert len(routes) == 4
    before = snapshot(shy)
    shy.run("nmk", "set", "accept-routes=on")
    reaches(shy, joined.a.address(4))
    assert snapshot(shy) != before
    shy.run("nmk", "set", "accept-routes=off")
    assert snapshot(shy) == before
    reaches(shy, mesh.address(joined.a.gateway.name))
    for host in (hermit, shy):
        host.run("nmk", "leave")


def test_ranges_that_are_taken_away_are_gone_everywhere(apart: World) -> None:
    mesh, viewer = apart.mesh, apart.viewer
    gateway = mesh.join(mesh.machine("waning"))
    check_in(gateway, viewer)
    before = [snapshot(host) for host in (gateway, viewer)]
    ranges = ["192.168.90.0/24", "192.168.91.0/24", "fd90::/64"]
    give(mesh, gateway.name, *ranges)
    check_in(gateway, viewer)
    while ranges:
        assert routed(viewer) == dict.fromkeys(ranges, "waning")
        assert set(ranges) < set(live_peers(viewer, "allowed-ips")[key_of(gateway)].split())
        during = [snapshot(host) for host in (gateway, viewer)]
        for cidr in ranges:
            assert any(f"daddr {cidr} accept" in line for line in during[0]) or len(ranges) > 1
            assert any(f"route {cidr} dev nmk-home" in line for line in during[1])
        gone = ranges.pop()
        take(mesh, gateway.name, gone)
        check_in(gateway, viewer)
        assert not [line for host in (gateway, viewer) for line in snapshot(host) if gone in line]
    assert [snapshot(host) for host in (gateway, viewer)] == before
    gateway.run("nmk", "leave")


@pytest.mark.parametrize(
    "ending",
    [
        "role removed",
        *(pytest.param(e, marks=pytest.mark.full) for e in ("left", "down")),
        "deleted",
    ],
)
def test_nothing_is_left_of_a_gateway(apart: World, ending: str) -> None:
    mesh, viewer = apart.mesh, apart.viewer
    gateway = mesh.machine(f"gone-{ending.replace(' ', '-')}")
    machine_before, viewer_before = snapshot(gateway), snapshot(viewer)
    mesh.join(gateway)
    check_in(gateway)
    member_before = snapshot(gateway)
    give(mesh, gateway.name, "192.168.90.0/24", "fd90::/64")
    check_in(gateway, viewer)
    assert snapshot(gateway) != member_before
    assert snapshot(viewer) != viewer_before
    match ending:
        case "role removed":
            take(mesh, gateway.name)
            check_in(gateway)
            assert snapshot(gateway) == member_before
            gateway.run("nmk", "leave")
        case "left":
            gateway.run("nmk", "leave")
        case "down":
            gateway.run("nmk", "down")
            assert network_of(snapshot(gateway)) == network_of(machine_before)
            gateway.run("nmk", "leave")
        case "deleted":
            mesh.admin("node", "delete", "-n", "home", gateway.name, "--yes")
            assert "was deleted" in failure(gateway, "checkin").message
            assert network_of(snapshot(gateway)) == network_of(machine_before)
            gateway.run("nmk", "leave")
    check_in(viewer)
    assert snapshot(gateway) - LEFT == machine_before
    assert snapshot(viewer) == viewer_before


def network_of(lines: set[str]) -> set[str]:
    """Without files, which are kept until the machine leaves."""
    return {line for line in lines if not line.startswith(("file ", "run "))}


@pytest.mark.parametrize(
    ("first", "forwarding"),
    [
        pytest.param("home", "0", marks=pytest.mark.full),
        pytest.param("second", "0", marks=pytest.mark.full),
        ("second", "1"),
    ],
)
def test_two_networks_share_what_a_machine_forwards(
    apart: World, first: str, forwarding: str
) -> None:
    mesh = apart.mesh
    gateway = mesh.machine(f"double-{first}-{forwarding}")
    gateway.run("sysctl", f"net.ipv4.ip_forward={forwarding}")
    before = snapshot(gateway)
    mesh.join(gateway)
    join_second(mesh, gateway)
    for network, cidr in (("home", "192.168.92.0/24"), ("second", "fd92::/64")):
        mesh.admin("gateway", "add", "-n", network, gateway.name, "egress", cidr)
    check_in(gateway)
    both = snapshot(gateway)
    assert gateway.read(FORWARDING) == "1\n"
    assert commands(gateway) == []
    gateway.run("nmk", "leave", "-n", first)
    check_in(gateway)  # its filter named the other network's interface
    assert commands(gateway) == []
    kept = {line for line in both if re.match(r"sysctl (?!.*[.]nmk-).*forward", line)}
    assert kept <= snapshot(gateway)
    gateway.run("nmk", "leave")
    assert snapshot(gateway) - LEFT == before
    assert gateway.read(FORWARDING) == f"{forwarding}\n"


def test_settings_that_forwarding_resets_are_put_back_as_well(apart: World) -> None:
    """A change of ip_forward sets others to what is usual (Linux: ip-sysctl)."""
    gateway = apart.mesh.machine("hardened")
    gateway.run("sysctl", "net.ipv4.conf.all.accept_redirects=0", "net.ipv4.conf.eth0.forwarding=1")
    before = snapshot(gateway)
    apart.mesh.join(gateway)
    give(apart.mesh, gateway.name, "192.168.93.0/24")
    check_in(gateway)
    gateway.run("nmk", "leave")
    assert snapshot(gateway) - LEFT == before


def test_a_default_route_that_is_advertised_stays_where_a_machine_forwards(apart: World) -> None:
    mesh, gateway, router = apart.mesh, apart.a.gateway, apart.a.host
    gateway.run("sysctl", "net.ipv6.conf.eth1.accept_ra=1")
    check_in(gateway)
    before = snapshot(gateway)

    def has_route() -> bool:
        advertise(router)
        shown = gateway.run("ip", "-6", "route", "show", "default", "dev", "eth1", "proto", "ra")
        return bool(shown.stdout)

    poll(has_route, 10, "default route by advertisement")
    give(mesh, gateway.name, "fd50::/64")
    check_in(gateway)
    assert gateway.read("/proc/sys/net/ipv6/conf/all/forwarding") == "1\n"
    assert gateway.run("ip", "-6", "route", "show", "default", "proto", "ra").stdout
    gateway.run("ip", "-6", "route", "del", "default", "dev", "eth1", "proto", "ra")
    poll(has_route, 10, "default route by advertisement, at a gateway")
    assert commands(gateway) == []

    join_second(mesh, gateway)
    mesh.admin("gateway", "add", "-n", "second", gateway.name, "egress", "fd92::/64")
    check_in(gateway)
    take(mesh, gateway.name)
    check_in(gateway)
    assert gateway.read("/proc/sys/net/ipv6/conf/eth1/accept_ra") == "2\n"  # for the second one
    gateway.run("nmk", "leave", "-n", "second")
    gateway.run("ip", "-6", "route", "del", "default", "dev", "eth1", "proto", "ra")
    assert snapshot(gateway) == before


def advertise(router: Host) -> None:
    """Tell the LAN, as a router does, that this is the way to everywhere."""
    router.run("python3", "-c", ADVERTISE)


# Steady


@pytest.mark.parametrize("place", DAMAGES)
def test_a_hand_at_it_is_undone_by_the_next_check_in(joined: World, place: str, full: bool) -> None:
    gateway = joined.a.gateway
    before = snapshot(gateway)
    for damage in DAMAGES[place] if full else DAMAGES[place][:2]:
        gateway.run(*damage.split())
        assert commands(gateway), damage
        assert snapshot(gateway) == before, damage
    assert commands(gateway) == []


def test_a_check_in_that_finds_nothing_new_runs_no_command(joined: World) -> None:
    for host in joined.members:
        check_in(host)
        assert commands(host) == []


# Without nft


def test_without_nft_a_gateway_says_so_and_stays_in_the_mesh(apart: World) -> None:
    mesh, viewer = apart.mesh, apart.viewer
    site = make_site(mesh, "bare", 80)
    hide_nft(site.gateway)
    check_in(site.gateway)
    give(mesh, site.gateway.name, *site.ranges)
    refused = failure(site.gateway, "checkin")
    assert refused == (
        1,
        f"home: {NO_NFT}",
        "apt-get install nftables",
    )
    check_in(viewer)
    reaches(viewer, mesh.address(site.gateway.name))
    assert is_deaf(viewer, site.address(4))
    assert site.gateway.read(FORWARDING) == "0\n"  # nothing is forwarded without rules
    assert failure(site.gateway, "checkin") == refused
    listed = mesh.controller.run("nmk", "gateway", "list", "-n", "home").stderr
    assert "gateway-bare does not serve as egress gateway: nft is not installed there" in listed

    show_nft(site.gateway)
    check_in(site.gateway)
    reaches(viewer, site.address(4))
    check_in(site.gateway)
    assert (
        "gateway-bare does not"
        not in mesh.controller.run("nmk", "gateway", "list", "-n", "home").stderr
    )
    hide_nft(site.gateway)
    assert failure(site.gateway, "checkin") == refused
    reaches(viewer, site.address(4))
    show_nft(site.gateway)
    site.gateway.run("nmk", "leave")
    check_in(viewer)


def test_without_nft_a_machine_follows_ranges_all_the_same(apart: World) -> None:
    plain = apart.mesh.join(apart.mesh.machine("plain"))
    hide_nft(plain)
    check_in(plain)
    show_nft(plain)
    before = snapshot(plain)
    hide_nft(plain)
    apart.join_sites("--nat", "auto")
    check_in(plain)
    for family in FAMILIES:
        reaches(plain, apart.a.address(family))
    assert commands(plain) == []
    apart.part_sites()
    check_in(plain)
    show_nft(plain)
    assert snapshot(plain) == before
    plain.run("nmk", "leave")


def hide_nft(host: Host) -> None:
    host.run("mv", "/usr/sbin/nft", "/usr/sbin/nft.away")


def show_nft(host: Host) -> None:
    host.run("mv", "/usr/sbin/nft.away", "/usr/sbin/nft")
