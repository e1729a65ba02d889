"""Exit nodes: everything by another node, and nothing beside it at any moment."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from ipaddress import ip_address, ip_interface, ip_network
from typing import Any

import pytest

from nmk.agent.exits import NO_LAN
from nmk.core.links import is_lan
from nmk.core.ruleset import KILL
from nmk.core.tunnel import MARK
from tests.gateways import forged
from tests.gateways.capture import Capture, Packet, captured
from tests.gateways.sites import status, told
from tests.lab import Host, Lab, Network, poll
from tests.mesh import INTERFACE, PORT, Failure, Mesh, failure, live_peers, reaches

STATE = "/var/lib/nmk/home.json"
SHUT = "the kill switch lets nothing out but to the LAN"
OPENS = "nmk set -n home kill-switch=off"
TUNNELS = {51821, 51822}  # WireGuard's ports, of the first network and of a second one
SENDER = """
import socket, sys, time
kept = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
kept.connect((sys.argv[1], 9))
while True:
    for sock in (kept, socket.socket(socket.AF_INET, socket.SOCK_DGRAM)):
        try:
            sock.sendto(b"leak?", (sys.argv[1], 9)) if sock is not kept else sock.send(b"leak?")
        except OSError:
            pass
    print("talking", flush=True)
    time.sleep(0.01)
"""


class Trip:
    """A laptop in a café, its exit node at home, and somebody in the internet."""

    def __init__(self, lab: Lab, mesh: Mesh) -> None:
        self.lab, self.mesh = lab, mesh
        self.cafe: Network = lab.lan(
            "cafe",
            "192.168.1.0/24",
            cidr6="2001:db8:1::/64",
            nat="port-restricted",
            behind=mesh.internet,
        )
        self.web = lab.host("web", on=mesh.internet)
        self.guest = lab.host("guest", on=self.cafe)
        self.home = mesh.join(mesh.machine("home"))
        self.laptop = mesh.join(mesh.machine("laptop", on=self.cafe))
        mesh.admin("gateway", "add", "home", "exit")
        for host in (self.home, self.laptop):
            host.run("nmk", "checkin")

    def rejoin(self) -> None:
        """The laptop joins again, and its exit node hears of it."""
        self.mesh.join(self.laptop)
        self.home.run("nmk", "checkin")

    @contextmanager
    def talking(self) -> Iterator[Capture]:
        """The laptop talks to the internet by all means, and the café's router listens."""
        targets = [self.web.address, str(self.web.address6)]
        assert self.cafe.router
        with captured(self.cafe.router, "eth1") as capture:
            ping = ("ping", "-n", "-q", "-i", "0.01")
            talk = [self.laptop.start(*ping, target) for target in targets]
            talk.append(self.laptop.start("python3", "-c", SENDER, self.web.address))
            talk[-1].wait_for("talking")
            yield capture
            for process in talk:
                process.kill()

    def leaks(self, capture: Capture, since: float = 0) -> list[Packet]:
        """What left the laptop other than into the tunnel, to the controller or to neighbours."""
        return [
            packet
            for packet in capture.packets
            if packet.at > since and self._is_laptops(packet.source) and not self._may_go(packet)
        ]

    def _is_laptops(self, source: str) -> bool:
        inside = ("10.0.0.0/8", "fc00::/7")  # the mesh's, which have no business in a café
        own = source in (self.laptop.address, self.laptop.address6)
        return own or any(ip_address(source) in ip_network(cidr) for cidr in inside)

    def _may_go(self, packet: Packet) -> bool:
        target = ip_address(packet.target)
        near = any(target in subnet for subnet in self.cafe.subnets if is_lan(str(subnet)))
        near = near or "neighbor" in packet.what  # how the router is found
        tunnel = packet.source_port in TUNNELS and packet.target_port in TUNNELS
        controller = PORT in (packet.target_port, packet.source_port)
        return near or target.is_link_local or target.is_multicast or tunnel or controller

    def now(self) -> float:
        return float(self.laptop.run("date", "+%s.%N").stdout)

    def set(self, *settings: str) -> float:
        """Set wishes; the time when that was done."""
        self.laptop.run("nmk", "set", *settings)
        return self.now()

    def seen_as(self, family: int = 4) -> str:
        """The address that somebody in the internet sees of the laptop."""
        target = str(self.web.address if family == 4 else self.web.address6)
        with captured(self.web, "eth0", "icmp or icmp6") as capture:
            reaches(self.laptop, target)
        return next(p.source for p in capture.packets if "echo request" in p.what)


@pytest.fixture(scope="module")
def trip(lab: Lab, mesh: Mesh) -> Trip:
    return Trip(lab, mesh)


@pytest.fixture(autouse=True)
def back(trip: Trip) -> Iterator[None]:
    """Every test begins without an exit node and with all machines on."""
    yield
    if not _has_tunnel(trip.laptop):
        trip.laptop.run("nmk", "up")
    trip.set("exit-node=", "kill-switch=")


def test_everything_goes_by_the_exit_node_in_both_families(trip: Trip) -> None:
    assert trip.cafe.router
    assert trip.seen_as(4) == trip.cafe.router.address
    assert trip.seen_as(6) == trip.laptop.address6
    said = trip.laptop.run("nmk", "set", "exit-node=home").stderr
    assert said == "home: exit-node=home\n", "where it works there is no more to say"
    assert trip.seen_as(4) == trip.home.address
    assert trip.seen_as(6) == trip.home.address6
    trip.set("exit-node=")
    assert trip.seen_as(4) == trip.cafe.router.address
    assert trip.seen_as(6) == trip.laptop.address6


def test_an_exit_node_is_no_router_of_the_machine(trip: Trip) -> None:
    laptop, target = trip.laptop, trip.mesh.address("laptop", 6)
    conf = f"/proc/sys/net/ipv6/conf/{INTERFACE}"
    trip.set("exit-node=home", "kill-switch=on")
    packet = forged.advertisement("fe80::bad", target, "fd01:cafe::/80", "fd99::/64")

    def taken() -> list[str]:
        shows = (("route", "show", "table", "main"), ("address", "show"))
        told = [laptop.run("ip", "-6", *show, "dev", INTERFACE).stdout for show in shows]
        return [line for text in told for line in text.splitlines()]

    before = taken()
    assert not any("fe80:" in line for line in before)
    for opened in (  # either of them is enough
        ("true",),
        ("sysctl", *(f"net.ipv6.conf.{INTERFACE}.{n}=2" for n in ("accept_ra", "autoconf"))),
        ("nft", "delete", "table", "inet", "nmk-home"),
    ):
        laptop.run(*opened)
        forged.send(trip.home, INTERFACE, packet)
        reaches(trip.home, target)  # so that one has come before
        assert taken() == before, opened
        laptop.run("nmk", "checkin")
        assert [laptop.read(f"{conf}/{n}") for n in ("accept_ra", "autoconf")] == ["0\n", "0\n"]
    assert f"set net.ipv6.conf.{INTERFACE}.accept_ra to 0" in laptop.run("nmk", "log").stdout


def test_the_lan_and_the_controller_are_where_they_were(trip: Trip) -> None:
    trip.set("exit-node=home", "kill-switch=on")
    reaches(trip.laptop, trip.guest.address)
    reaches(trip.guest, trip.laptop.address)
    reaches(trip.laptop, trip.mesh.address("home"))
    with trip.talking() as capture:
        trip.laptop.run("nmk", "checkin")
    assert [p for p in capture.packets if p.target_port == PORT]
    assert trip.leaks(capture) == []


@pytest.mark.parametrize("switch", [pytest.param("off", marks=pytest.mark.full), "on"])
def test_a_lan_that_claims_the_internet_gets_nothing_of_it(trip: Trip, switch: str) -> None:
    """By DHCP or an advertisement: public subnets, and routes to public addresses."""
    laptop, web, web6 = trip.laptop, trip.web.address, str(trip.web.address6)
    trip.set("exit-node=home", f"kill-switch={switch}")
    claims, inside = ("11.9.9.9/8", "2600:9::9/64"), "2600:9::7"
    try:
        for claim in claims:
            nodad = ["nodad"] * (":" in claim)
            laptop.run("ip", "address", "add", claim, "dev", "eth0", *nodad)
        for target in (web, web6):
            laptop.run("ip", "route", "add", target, "dev", "eth0")
        laptop.run("nmk", "checkin")
        seen = " or ".join(f"host {a}" for a in (web, web6, "11.1.1.1", inside))
        with captured(laptop, "eth0", seen) as capture:
            for target in (web, web6):
                reaches(laptop, target)
            for target in ("11.1.1.1", inside):
                laptop.run("ping", "-c1", "-W1", target, check=False)
        assert capture.packets == []
        shown = {one["range"]: one["shut"] for one in status(laptop)["exit"]["lans"]}
        assert shown.pop("192.168.1.0/24") is None
        assert NO_LAN in shown.values()
        assert None not in shown.values()
        found = told(laptop, "gateway")
        assert found["level"] == "ok"
        assert "beside the exit node: 192.168.1.0/24 at eth0; shut: 11.0.0.0/8" in found["reason"]
    finally:
        for claim in claims:
            laptop.run("ip", "address", "del", claim, "dev", "eth0", check=False)
        for target in (web, web6):
            laptop.run("ip", "route", "del", target, "dev", "eth0", check=False)


ONE_PACKET = """
import socket, sys
asks = (socket.SO_MARK, 0), (socket.SO_BINDTODEVICE, b"eth0"), (socket.SO_DONTROUTE, 1)
for option, value in asks:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as found:
        found.setsockopt(socket.SOL_SOCKET, option, value)
        try:
            found.sendto(b"leak?", (sys.argv[1], 9))
        except OSError:
            pass
"""


def test_the_router_of_a_lan_with_public_addresses_is_found_again(trip: Trip) -> None:
    """Once the uplink has gone and come, as a DHCP client lays its route, and as people do."""
    vps = trip.mesh.join(trip.mesh.machine("vps"))
    trip.home.run("nmk", "checkin")
    router, there = "203.0.113.1", ["ip", "-4", "route", "show", "default"]
    vps.run("nmk", "set", "exit-node=home", "kill-switch=on")
    reaches(vps, trip.mesh.address("home"))
    for device in (["dev", "eth0"], []):
        vps.run("ip", "link", "set", "eth0", "down")
        vps.run("ip", "link", "set", "eth0", "up")
        assert vps.run(*there).stdout == ""
        [gone] = [p for p in status(vps)["problems"] if p["code"] == "no-uplink"]
        assert "the main table has no default route" in gone["message"]
        vps.run("ip", "route", "add", "default", "via", router, *device)
        assert vps.run(*there).stdout.split()[:5] == ["default", "via", router, "dev", "eth0"]
    assert status(vps)["problems"] == []
    with captured(vps, "eth0", f"host {trip.web.address} and udp port 9") as capture:
        vps.run("python3", "-c", ONE_PACKET, trip.web.address)
    assert capture.packets == [], "the LAN itself is still shut, whatever a socket asks for"
    vps.run("ip", "route", "replace", "default", "via", router, "dev", INTERFACE, "onlink")
    [wrong] = [p for p in status(vps)["problems"] if "default route" in p["message"]]
    assert f"default via {router} dev {INTERFACE}" in wrong["message"]
    assert told(vps, "overlap")["level"] == "broken"
    vps.run(*wrong["hint"].partition(";")[0].split())
    assert vps.run(*there).stdout == ""
    vps.run("nmk", "leave")


def test_a_lan_that_takes_a_range_that_is_led_gets_no_packet_of_it(trip: Trip) -> None:
    """But from who says that the network leads him nowhere."""
    laptop, guest = trip.laptop, trip.guest
    trip.mesh.admin("gateway", "add", "home", "egress", "172.20.0.0/16")
    trip.set("exit-node=home", "kill-switch=on")
    guest.run("ip", "address", "add", "172.20.0.9/14", "dev", "eth0")
    laptop.run("ip", "address", "add", "172.21.0.5/14", "dev", "eth0")
    try:
        laptop.run("nmk", "checkin")
        with captured(guest, "eth0", "host 172.20.0.9 and not arp") as capture:
            assert laptop.run("ping", "-c1", "-W1", "172.20.0.9", check=False).returncode
        assert capture.packets == []
        shown = {one["range"]: one["shut"] for one in status(laptop)["exit"]["lans"]}
        assert shown["172.20.0.0/14"] == "the network leads to 172.20.0.0/16 in it"
        assert shown["192.168.1.0/24"] is None
        found = told(laptop, "gateway")
        assert found["level"] == "warn", found
        assert "172.20.0.0/14 at eth0 is shut by the kill switch" in found["reason"]
        laptop.run(*found["mend"].partition("else ")[2].split())
        reaches(laptop, "172.20.0.9")
        assert told(laptop, "gateway")["level"] == "ok"
    finally:
        laptop.run("ip", "address", "del", "172.21.0.5/14", "dev", "eth0", check=False)
        guest.run("ip", "address", "del", "172.20.0.9/14", "dev", "eth0", check=False)
        trip.set("accept-routes=")
        trip.mesh.admin("gateway", "remove", "home", "egress", "--yes")
        for host in (trip.home, laptop):
            host.run("nmk", "checkin")


METADATA = ("169.254.169.254", "fd00:ec2::254")  # where a provider's machines ask for their own


def test_a_lan_that_takes_the_meshs_addresses_gets_no_packet_of_it(trip: Trip) -> None:
    trip.set("exit-node=home", "kill-switch=on")
    home = trip.mesh.address("home")
    claim = f"{ip_interface(f'{home}/16').network.network_address + 0xC809}/16"
    other = f"{home}/16"
    trip.guest.run("ip", "address", "add", other, "dev", "eth0")
    trip.laptop.run("ip", "address", "add", claim, "dev", "eth0")
    try:
        done = trip.laptop.run("nmk", "checkin", check=False)
        assert "No such process" not in done.stderr
        with captured(trip.laptop, "eth0", f"host {home}") as capture:
            assert trip.laptop.run("ping", "-c1", "-W1", home, check=False).returncode
        assert [p for p in capture.packets if "ARP" not in p.what] == []
        said = json.dumps(status(trip.laptop)) + told(trip.laptop, "gateway")["mend"] + done.stderr
        assert "kill-switch=off" not in said
    finally:
        trip.laptop.run("ip", "address", "del", claim, "dev", "eth0")
        trip.guest.run("ip", "address", "del", other, "dev", "eth0")
        trip.laptop.run("nmk", "checkin")
    reaches(trip.laptop, home)


def test_each_machine_asks_its_own_metadata_service_and_no_other(trip: Trip) -> None:
    cafe, out = trip.cafe.router, trip.mesh.internet.router
    assert cafe
    assert out
    for router in (cafe, out):
        for service in METADATA:
            router.run("ip", "address", "replace", service, "dev", "lo")
    ours = " or ".join(f"host {service}" for service in METADATA)
    trip.set("exit-node=home", "kill-switch=on")
    with captured(trip.home, "eth0", ours) as at_home:
        with captured(cafe, "eth1", ours) as here:
            for service in METADATA:
                reaches(trip.laptop, service)
                reaches(trip.home, service)
                trip.laptop.run("ip", "route", "add", service, "dev", INTERFACE)
        with captured(trip.laptop, INTERFACE, ours) as tunnel:
            for service in METADATA:
                assert trip.laptop.run("ping", "-c2", "-W1", service, check=False).returncode
                trip.laptop.run("ip", "route", "del", service)
    assert {p.target for p in here.packets} >= set(METADATA)
    assert {p.target for p in tunnel.packets} == set(METADATA), "they went into the tunnel"
    own = {trip.home.address, trip.home.address6}
    assert {p.source for p in at_home.packets} - set(METADATA) == own
    for router in (cafe, out):
        for service in METADATA:
            router.run("ip", "address", "del", service, "dev", "lo")


def test_a_capture_sees_what_leaks(trip: Trip) -> None:
    with trip.talking() as capture:
        reaches(trip.laptop, trip.web.address)
        reaches(trip.laptop, str(trip.web.address6))
    leaks = trip.leaks(capture)
    assert {ip_address(p.source).version for p in leaks} == {4, 6}
    assert {p.target_port for p in leaks} == {None, 9}


def test_nothing_leaks_once_it_is_set_nor_when_it_is_taken_back(trip: Trip) -> None:
    with trip.talking() as capture:
        reaches(trip.laptop, trip.web.address)
        done = trip.set("exit-node=home")
        reaches(trip.laptop, trip.web.address)
        reaches(trip.laptop, str(trip.web.address6))
        before = trip.now()
        trip.set("exit-node=")
        reaches(trip.laptop, trip.web.address)
    assert [p for p in trip.leaks(capture) if p.at < done], "nothing was sent at all"
    assert [p for p in trip.leaks(capture, done) if p.at < before] == []
    inside = [p for p in trip.leaks(capture) if p.source not in _own(trip.laptop)]
    assert inside == [], "packets from inside the mesh, after it was taken back"


def test_nothing_leaks_while_the_interface_goes_down_and_up(trip: Trip, full: bool) -> None:
    trip.set("exit-node=home", "kill-switch=on")
    with trip.talking() as capture:
        for _ in range(3 if full else 1):
            trip.laptop.run("nmk", "down")
            trip.laptop.run("nmk", "checkin")
            trip.laptop.run("nmk", "up")
        reaches(trip.laptop, trip.web.address)
        trip.laptop.run("pkill", "wireguard-go")
        poll(lambda: not _has_tunnel(trip.laptop), 10, "tunnel that is gone")
        trip.laptop.run("nmk", "checkin")
        reaches(trip.laptop, trip.web.address)
    assert trip.leaks(capture) == []


def test_an_exit_node_that_is_off_leaks_nothing_and_works_again(trip: Trip) -> None:
    trip.set("exit-node=home")
    with trip.talking() as capture:
        trip.home.stop()
        trip.laptop.run("nmk", "checkin")  # the controller is still there
        assert trip.laptop.run("ping", "-c1", "-W1", trip.web.address, check=False).returncode
        trip.home.boot()
        trip.home.run("nmk", "checkin")
        reaches(trip.laptop, trip.web.address)
    assert trip.leaks(capture) == []


def test_a_node_that_is_no_exit_gateway_any_more(trip: Trip) -> None:
    trip.set("exit-node=home", "kill-switch=on")
    trip.mesh.admin("gateway", "remove", "home", "exit", "--yes")
    with trip.talking() as capture:
        done = trip.laptop.run("nmk", "checkin", check=False)
        assert (done.returncode, "home is no exit gateway, and so the" in done.stderr) == (1, True)
        [status] = json.loads(trip.laptop.run("nmk", "status", "-o", "json").stdout)
        assert _asked(status) == {"node": None, "problem": "home is no exit gateway"}
        assert trip.laptop.run("ping", "-c1", "-W1", trip.web.address, check=False).returncode
    assert trip.leaks(capture) == []
    doctor = trip.laptop.run("nmk", "doctor", check=False)
    assert doctor.returncode == 1
    assert "home is no exit gateway" in doctor.stdout
    trip.set("kill-switch=off")
    reaches(trip.laptop, trip.web.address)
    trip.mesh.admin("gateway", "add", "home", "exit")
    for host in (trip.home, trip.laptop):
        host.run("nmk", "checkin")
    assert trip.seen_as() == trip.home.address


def test_an_exit_node_that_does_not_answer_is_told(trip: Trip) -> None:
    trip.laptop.write("/etc/nmk/home.toml", "keepalive = 0\n")
    trip.set("exit-node=home")
    assert set(live_peers(trip.laptop, "persistent-keepalive").values()) == {"25"}
    assert trip.seen_as() == trip.home.address
    assert status(trip.laptop)["cut_off"] is None
    assert told(trip.laptop, "gateway")["level"] == "ok"
    trip.home.stop()

    def is_told() -> bool:
        trip.laptop.run("ping", "-c1", "-W1", trip.web.address, check=False)
        trip.laptop.run("nmk", "checkin", "--quiet")
        return bool(told(trip.laptop, "gateway")["level"] == "broken")

    try:
        poll(is_told, 90, "word of the exit node")
        found = told(trip.laptop, "gateway")
        assert found["reason"] == (
            "home does not answer, and so the exit node lets nothing out but to the LAN"
        )
        assert told(trip.laptop, "peers")["reason"].startswith("0 of 1 peers in touch")
        shown = status(trip.laptop)
        assert _asked(shown) == {"node": "home", "problem": "home does not answer"}
        assert shown["cut_off"] == {"by": "exit node", "next": found["mend"]}
        assert [p["state"] for p in shown["peers"]] == ["silent"]
        assert "home does not answer" in trip.laptop.run("nmk", "checkin").stderr
        trip.laptop.run(*found["mend"].split())
        reaches(trip.laptop, trip.web.address)
        assert status(trip.laptop)["cut_off"] is None
    finally:
        trip.laptop.run("rm", "/etc/nmk/home.toml")
        trip.home.boot()
        for host in (trip.home, trip.laptop):
            host.run("nmk", "checkin")


def test_a_kill_switch_is_laid_after_a_reboot_though_the_state_cannot_be_read(trip: Trip) -> None:
    laptop, good = trip.laptop, trip.laptop.read(STATE)
    trip.set("exit-node=home", "kill-switch=on")
    shut = laptop.read(STATE)
    laptop.reboot()
    laptop.write(STATE, shut[:-50], mode=0o600)
    try:
        assert laptop.run("nmk", "checkin", check=False).returncode == 1
        with trip.talking() as capture:
            laptop.run("nmk", "checkin", check=False)
            assert laptop.run("ping", "-c1", "-W1", trip.web.address, check=False).returncode
        assert trip.leaks(capture) == []
        reaches(laptop, trip.guest.address)
        assert status(laptop)["cut_off"] == {"by": "kill switch", "next": OPENS}
        laptop.run(*OPENS.split())
        laptop.run("nmk", "checkin", check=False)
        reaches(laptop, trip.web.address)
    finally:
        laptop.write(STATE, good, mode=0o600)
        laptop.run("nmk", "up")


@pytest.mark.parametrize("tool", ["wg", "ip"])
def test_a_kill_switch_opens_on_a_machine_that_lacks_a_tool(trip: Trip, tool: str) -> None:
    """After a reboot, when no interface can be made: said, opened, and left for good."""
    laptop = trip.laptop
    trip.set("exit-node=home", "kill-switch=on")
    laptop.reboot()
    path = laptop.run("sh", "-c", f"readlink -f $(command -v {tool})").stdout.strip()
    laptop.run("mv", path, f"{path}.away")
    try:
        said = laptop.run("nmk", "checkin", check=False)
        assert said.returncode == 1
        assert said.stderr.endswith(f"{SHUT}\n  try: {OPENS}\n")
        assert laptop.run("ping", "-c1", "-W1", trip.web.address, check=False).returncode
        assert status(laptop)["cut_off"] == {"by": "kill switch", "next": OPENS}
        assert told(laptop, "gateway")["mend"] == OPENS
        for ends in (OPENS, "nmk leave -n home --force"):
            laptop.run(*ends.split(), check=False)
            laptop.run("nmk", "checkin", "--quiet", check=False)
            reaches(laptop, trip.web.address)
            laptop.run("nmk", "set", "kill-switch=on", check=False)
        assert laptop.run("nft", "list", "ruleset").stdout == ""
        assert laptop.run("ls", "-A", "/var/lib/nmk", check=False).stdout == ""
    finally:
        laptop.run("mv", f"{path}.away", path)
    assert not _has_tunnel(laptop)
    trip.rejoin()


REFUSING = """#!/bin/sh
[ "$*" = "-f -" ] || exec %s "$@"
cat > /tmp/nft
grep -q guard-input /tmp/nft && exit 1
exec %s -f /tmp/nft
"""


def test_a_kill_switch_is_laid_beside_a_table_that_nft_does_not_renew(trip: Trip) -> None:
    """As after an upgrade of the kernel, until the reboot: no module can be loaded."""
    laptop = trip.laptop
    nft = laptop.run("which", "nft").stdout.strip()
    trip.set("exit-node=home")
    before = laptop.run("nft", "list", "table", "inet", "nmk-home").stdout
    assert "chain answer" in before
    laptop.write("/usr/local/sbin/nft", REFUSING % (nft, nft), mode=0o755)
    try:
        for _ in range(2):
            assert laptop.run("nmk", "set", "kill-switch=on", check=False).returncode == 1
            after = laptop.run("nft", "list", "table", "inet", "nmk-home").stdout
            assert "chain guard-input" in after
            assert [after.count(f"chain {name} ") for name in KILL] == [1] * len(KILL)
        assert trip.seen_as() == trip.home.address
        assert status(laptop)["kill_switch"] == {"laid": True, "problem": None, "next": None}
        for family in ("-4", "-6"):
            laptop.run("ip", family, "rule", "flush")
            laptop.run("ip", family, "rule", "add", "priority", "32766", "table", "main")
        with trip.talking() as capture:
            assert laptop.run("ping", "-c1", "-W1", trip.web.address, check=False).returncode
        assert trip.leaks(capture) == []
        assert laptop.run("nmk", "set", "kill-switch=off", check=False).returncode == 1
        assert "kill-" not in laptop.run("nft", "list", "table", "inet", "nmk-home").stdout
    finally:
        laptop.run("rm", "/usr/local/sbin/nft")
        laptop.run("nmk", "up")


def test_a_kill_switch_that_cuts_the_machine_off_is_told(trip: Trip) -> None:
    trip.set("exit-node=home", "kill-switch=on")
    assert status(trip.laptop)["cut_off"] is None
    opens, raises = "nmk set -n home kill-switch=off", "nmk up -n home"
    down = trip.laptop.run("nmk", "down").stderr
    assert f"the interface is not up, and so {SHUT}\n  try: {raises}\n" in down
    shown = status(trip.laptop)
    assert _asked(shown) == {"node": None, "problem": "the interface is not up"}
    assert shown["cut_off"] == {"by": "kill switch", "next": raises}
    assert f"cut off     {SHUT}\n  try: {raises}\n" in trip.laptop.run("nmk", "status").stdout
    assert SHUT in trip.laptop.run("nmk", "checkin").stderr
    found = told(trip.laptop, "gateway")
    assert (found["level"], found["mend"]) == ("broken", raises)
    trip.laptop.run(*opens.split())
    reaches(trip.laptop, trip.web.address)
    assert status(trip.laptop)["cut_off"] is None
    found = told(trip.laptop, "gateway")
    assert (found["level"], "nmk-home is down: nothing is routed" in found["reason"]) == (
        "ok",
        True,
    )
    trip.laptop.run("nmk", "up")

    trip.mesh.admin("gateway", "remove", "home", "exit", "--yes")
    told_open = failure(trip.laptop, "checkin")
    assert (told_open[0], "and so everything leaves openly" in told_open[1]) == (1, True)
    reaches(trip.laptop, trip.web.address)
    set_on = trip.laptop.run("nmk", "set", "kill-switch=on").stderr
    assert f"home is no exit gateway, and so {SHUT}\n  try: {opens}\n" in set_on
    trip.laptop.run(*opens.split())
    trip.mesh.admin("gateway", "add", "home", "exit")
    for host in (trip.home, trip.laptop):
        host.run("nmk", "checkin")


def test_only_what_is_an_exit_gateway_can_be_wished_for(trip: Trip) -> None:
    def refused(name: str) -> Failure:
        return failure(trip.laptop, "set", f"exit-node={name}")

    there, instead = "(exit gateways: home)", "nmk set -n home exit-node=home"
    unknown = f"exit-node=web: there is no node 'web' {there}"
    assert refused("web") == (2, unknown, instead)
    itself = f"exit-node=laptop: laptop is this machine itself {there}"
    assert refused("laptop") == (2, itself, instead)
    trip.mesh.admin("gateway", "add", "home", "ingress")
    trip.mesh.admin("extclient", "create", "phone")
    trip.laptop.run("nmk", "checkin")
    assert refused("phone") == (2, f"exit-node=phone: phone is an ext client {there}", instead)
    trip.mesh.admin("gateway", "remove", "home", "exit", "--yes")
    trip.laptop.run("nmk", "checkin")
    assert refused("home") == (
        2,
        "exit-node=home: home is no exit gateway (exit gateways: none)",
        "on the controller: nmk gateway add -n home home exit; then here: nmk checkin -n home",
    )
    assert refused("web").hint.startswith("on the controller: nmk gateway add -n home NODE exit;")
    trip.mesh.admin("extclient", "delete", "phone", "--yes")
    trip.mesh.admin("gateway", "remove", "home", "ingress", "--yes")
    trip.mesh.admin("gateway", "add", "home", "exit")
    trip.laptop.run("nmk", "checkin")
    assert failure(trip.laptop, "set", "kill-switch=maybe")[0] == 2
    assert failure(trip.laptop, "set", "exit=home").message == "'exit' is no setting"
    assert "0.0.0.0/0" not in "".join(live_peers(trip.laptop, "allowed-ips").values())


def test_a_wish_in_a_file_goes_first_and_says_so(trip: Trip) -> None:
    trip.laptop.write("/etc/nmk/home.toml", 'exit-node = "home"\nkill-switch = true\n')
    shown = json.loads(trip.laptop.run("nmk", "show", "-o", "json").stdout)
    assert {"name": "exit-node", "value": "home", "from": "/etc/nmk/home.toml"} in shown
    assert {"name": "kill-switch", "value": "on", "from": "/etc/nmk/home.toml"} in shown
    refused = failure(trip.laptop, "set", "exit-node=")
    assert refused[1:] == (
        "/etc/nmk/home.toml sets exit-node and takes precedence",
        "change it in /etc/nmk/home.toml",
    )
    trip.laptop.run("nmk", "checkin")
    assert trip.seen_as() == trip.home.address
    trip.laptop.run("rm", "/etc/nmk/home.toml")
    trip.laptop.run("nmk", "checkin")


def test_a_strict_reverse_path_filter_is_no_hindrance(trip: Trip) -> None:
    for name in ("all", "default", "eth0", INTERFACE):
        trip.laptop.run("sysctl", f"net.ipv4.conf.{name}.rp_filter=1")
    trip.set("exit-node=home")
    assert trip.seen_as() == trip.home.address
    trip.laptop.run("nmk", "checkin")


def test_where_a_strict_filter_cannot_be_told_of_the_mark_the_own_way_stays(trip: Trip) -> None:
    assert trip.cafe.router
    laptop, own = trip.laptop, trip.cafe.router.address
    laptop.run("sysctl", "net.ipv4.conf.eth0.rp_filter=1", "net.ipv4.conf.all.src_valid_mark=0")
    laptop.run("mount", "--bind", "/proc/sys", "/proc/sys")
    laptop.run("mount", "-o", "remount,ro,bind", "/proc/sys")
    try:
        said = failure(laptop, "set", "exit-node=home")
        assert said[1].startswith(
            "the exit node is left out: net.ipv4.conf.eth0.rp_filter is strict"
        )
        assert trip.seen_as() == own
        reaches(laptop, trip.mesh.address("home"))
        shut = f"and so {SHUT}"
        for command in (("set", "kill-switch=on"), ("checkin",)):
            done = laptop.run("nmk", *command, check=False)
            assert (done.returncode, shut in done.stderr) == (1, True), done.stderr
        found = status(laptop)
        assert "the exit node is left out: net.ipv4.conf.eth0" in found["exit"]["problem"]
        assert found["cut_off"]["next"].startswith("sysctl -w net/ipv4/conf/eth0/rp_filter=2")
        laptop.run("nmk", "set", "kill-switch=off", check=False)
    finally:
        laptop.run("umount", "/proc/sys")
    laptop.run("nmk", "checkin")
    assert trip.seen_as() == trip.home.address


def test_a_route_that_another_program_put_in_our_table_stops_nothing(trip: Trip) -> None:
    laptop = trip.laptop
    trip.set("exit-node=home")
    line = laptop.run("ip", "route", "show", "table", "all", "default", "dev", INTERFACE).stdout
    number = line.split("table ")[1].split()[0]
    to = ("dev", "eth0", "table", number)
    laptop.run("ip", "route", "replace", "default", *to)
    laptop.run("ip", "route", "add", "198.18.7.0/24", *to)
    laptop.run("nmk", "checkin")
    assert trip.seen_as() == trip.home.address
    laptop.run("ip", "route", "replace", "default", *to)
    laptop.run("nmk", "down")
    laptop.run("nmk", "up")
    assert trip.seen_as() == trip.home.address
    laptop.run("nmk", "leave")
    laptop.run("ip", "route", "del", "198.18.7.0/24", *to)
    trip.rejoin()


def test_routes_that_win_over_ours_are_named_and_the_kill_switch_keeps_packets_in(
    trip: Trip,
) -> None:
    """Beside ours, in our own table and in the main one: nmk deletes none of them."""
    assert trip.cafe.router
    laptop, home = trip.laptop, trip.mesh.address("home")
    trip.set("exit-node=home")
    line = laptop.run("ip", "route", "show", "table", "all", "default", "dev", INTERFACE).stdout
    ours = f"table {line.split('table ')[1].split()[0]}"
    router = laptop.run("ip", "route", "show", "default", "dev", "eth0").stdout.split()[2]
    four = f"default via {router} dev eth0 {ours}"
    six = f"default via {_link_local(trip.cafe.router)} dev eth0 metric 10 {ours}"
    laptop.run("ip", "route", "prepend", *four.split())
    laptop.run("ip", "-6", "route", "add", *six.split())
    laptop.run("ip", "route", "add", f"{home}/32", "dev", "eth0")
    found = status(laptop)
    assert found["exit"]["problem"] == (
        f"IPv4 leaves by eth0 (route {four}), IPv6 leaves by eth0 (route {six})"
    )
    assert f"packets to {home} leave by eth0, not by {INTERFACE}: route {home} dev eth0" in [
        p["message"] for p in found["problems"]
    ]
    removes = [f"ip -4 route del {four}", f"ip -6 route del {six}"]
    assert told(laptop, "gateway")["mend"].startswith(f"{'; '.join(removes)}; or end ")
    assert f"  try: {removes[0]}; " in laptop.run("nmk", "status").stdout
    trip.set("kill-switch=on")
    found = status(laptop)
    assert found["cut_off"] == {"by": "kill switch", "next": found["exit"]["hint"]}
    assert found["exit"]["hint"].startswith("; ".join(removes))
    with trip.talking() as capture:
        for target in (home, trip.web.address, str(trip.web.address6)):
            assert laptop.run("ping", "-c2", "-W1", target, check=False).returncode
    with captured(laptop, "eth0", f"host {home}") as wire:
        assert laptop.run("ping", "-c1", "-W1", home, check=False).returncode
    assert trip.leaks(capture) == []
    assert [p for p in wire.packets if "ARP" not in p.what] == []
    for command in (*removes, f"ip -4 route del {home} dev eth0"):
        laptop.run(*command.split())
    assert trip.seen_as(4) == trip.home.address
    assert trip.seen_as(6) == trip.home.address6
    assert status(laptop)["problems"] == []


SENDS = """
import socket, sys
mesh, mesh6, own, own6, web, web6 = sys.argv[1:]
odd = "fd99::9"  # of nobody, as one that the machine has had
for source, target in (mesh, web), (mesh6, web6), (own, web), (own6, web6), (odd, web6):
    family = socket.AF_INET6 if ":" in source else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as found:
        found.setsockopt(*(socket.IPPROTO_IPV6, 78, 1) if source == odd else (0, 15, 0))  # FREEBIND
        found.bind((source, 0))
        try:
            found.sendto(b"split?", (target, 4711))
        except OSError as error:
            print(source, error.errno)
"""
SPLITS = (
    """nft -f - <<-END
table inet split {
chain out {
type route hook output priority 9; policy accept;
udp dport 4711 meta mark set 1
}
}
END""",
    """for each in iptables ip6tables; do
$each -t mangle -A OUTPUT -p udp --dport 4711 -j MARK --set-mark 1
done""",
)


def test_what_another_program_reroutes_stays_in(trip: Trip) -> None:
    """By a mark and a rule of its own, as for split tunnelling: after `output` was left."""
    assert trip.cafe.router
    laptop = trip.laptop
    six = _link_local(trip.cafe.router)
    via = {4: laptop.run("ip", "route", "show", "default").stdout.split()[2], 6: six}
    trip.set("exit-node=home")
    mesh = [trip.mesh.address("laptop", family) for family in (4, 6)]
    own = [str(address) for address in _own(laptop)]
    talk = ("python3", "-c", SENDS, *mesh, *own, trip.web.address, str(trip.web.address6))
    for family, router in via.items():
        ip = ("ip", f"-{family}")
        laptop.run(*ip, "rule", "add", "pref", "10", "fwmark", "1", "lookup", "100")
        laptop.run(*ip, "route", "add", "default", "via", router, "dev", "eth0", "table", "100")

    def seen() -> tuple[set[str], list[str]]:
        """The sources of what left in the open, and what the program was told."""
        with captured(trip.cafe.router, "eth1", "udp port 4711") as capture:  # type: ignore[arg-type]
            said = laptop.run(*talk).stdout.split("\n")[:-1]
            reaches(laptop, trip.guest.address)
        return {p.source for p in capture.packets}, said

    try:
        for split, undo in zip(SPLITS, ("nft delete table inet split", "true"), strict=True):
            laptop.run("sh", "-ec", split)
            refused = [f"{address} 1" for address in mesh]  # EPERM
            assert seen() == ({*own, "fd99::9"}, refused)
            trip.set("kill-switch=on")
            assert seen() == (set(), [*refused, *(f"{a} 1" for a in (*own, "fd99::9"))])
            trip.set("kill-switch=")
            laptop.run("sh", "-ec", undo)
    finally:
        for table in (("inet", "split"), ("ip", "mangle"), ("ip6", "mangle")):
            laptop.run("nft", "delete", "table", *table, check=False)
        for family in via:
            laptop.run("ip", f"-{family}", "rule", "del", "pref", "10")
            laptop.run("ip", f"-{family}", "route", "flush", "table", "100")


HEARS = """
import socket, time
with socket.create_server(("::", 4712), family=socket.AF_INET6) as server:
    print("listening", flush=True)
    caller = server.accept()
    time.sleep(600)
"""
ENDS = """
import pathlib, socket, sys, time
talk = socket.create_connection((sys.argv[1], 4712), timeout=30)
print("open", flush=True)
while not pathlib.Path("/run/go").exists():
    time.sleep(0.05)
talk.send(b"secret")
"""


def test_what_the_kernel_sends_for_a_program_that_has_ended_stays_in(trip: Trip) -> None:
    """Over IPv6, when the tunnel and with it the source have gone: it has no socket any more."""
    assert trip.cafe.router
    laptop = trip.laptop
    trip.set("exit-node=home", "kill-switch=on")
    trip.web.start("python3", "-c", HEARS).wait_for("listening")
    program = laptop.start("python3", "-c", ENDS, str(trip.web.address6))
    program.wait_for("open")
    trip.home.run("ip", "link", "set", INTERFACE, "down")
    try:
        laptop.run("touch", "/run/go")
        program.wait()
        laptop.run("nmk", "down")
        before = retransmitted(laptop)
        with captured(trip.cafe.router, "eth1", "ip6 and tcp port 4712") as capture:
            poll(lambda: retransmitted(laptop) >= before + 2, 60, "what is sent again")
        assert capture.packets == []
    finally:
        trip.home.run("ip", "link", "set", INTERFACE, "up")
        trip.home.run("nmk", "checkin")
        laptop.run("rm", "-f", "/run/go")
        laptop.run("nmk", "up")


def retransmitted(host: Host) -> int:
    """Segments that the kernel has sent again, or would have (proc_net_snmp)."""
    names, values = (x for x in host.read("/proc/net/snmp").splitlines() if x.startswith("Tcp:"))
    return int(dict(zip(names.split(), values.split(), strict=True))["RetransSegs"])


MARKED = """
import socket, sys
marked = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
marked.setsockopt(socket.SOL_SOCKET, socket.SO_MARK, int(sys.argv[1]))
marked.sendto(b"marked", (sys.argv[2], 4711))
"""
SPEAKER = """
import socket, time
with socket.create_server(("::", 4711), family=socket.AF_INET6) as server:
    print("listening", flush=True)
    caller, _ = server.accept()
    print("called", flush=True)
    while True:
        caller.send(b"secret")
        time.sleep(0.05)
"""
CALLER = """
import socket, sys
with socket.create_connection((sys.argv[1], 4711)) as call:
    while call.recv(99):
        print("heard", flush=True)
"""
RESTORES = """nft -f - <<-END
table inet restores {
chain out {
type route hook output priority -140; policy accept;
ct mark != 0 meta mark set ct mark
}
}
END"""


def test_the_mark_lets_others_past_a_kill_switch_neither_by_ping_nor_by_a_call_of_before(
    trip: Trip,
) -> None:
    """A set-user-ID ping marks for whoever calls it; a program gives calls their marks again."""
    assert trip.cafe.router
    laptop, mark = trip.laptop, str(MARK)
    trip.set("exit-node=home")
    speaker = laptop.start("python3", "-c", SPEAKER)
    speaker.wait_for("listening")
    caller = trip.guest.start("python3", "-c", CALLER, str(laptop.address6))
    caller.wait_for("heard")
    laptop.run("sh", "-ec", RESTORES)
    try:
        trip.set("kill-switch=on")
        with (
            captured(trip.cafe.router, "eth1", "icmp or udp port 4711") as beside,
            captured(trip.guest, "eth0", "tcp port 4711") as answers,
        ):
            ping = laptop.run("ping", "-c1", "-W1", "-m", mark, trip.web.address, check=False)
            laptop.run("python3", "-c", MARKED, mark, trip.web.address)
        assert ping.returncode
        assert [p.target_port for p in beside.of(laptop.address)] == [4711], "WireGuard's passes"
        assert answers.of(laptop.address6) == []
    finally:
        laptop.run("nft", "delete", "table", "inet", "restores")
        for process in (speaker, caller):
            process.kill()


def test_a_gateway_with_a_kill_switch_goes_on_forwarding_for_the_mesh(trip: Trip) -> None:
    """To a range that is none of its own subnets, where nothing that it sends itself may go."""
    laptop, guest, there = trip.laptop, trip.guest, "172.30.0.1"
    guest.run("ip", "address", "add", there, "dev", "lo")
    laptop.run("ip", "route", "add", f"{there}/32", "via", str(guest.address))
    trip.mesh.admin("gateway", "add", "laptop", "egress", f"{there}/32")
    trip.set("exit-node=home", "kill-switch=on")
    try:
        for host in (laptop, trip.home):
            host.run("nmk", "checkin")
        reaches(trip.home, there)
        assert laptop.run("ping", "-c1", "-W1", there, check=False).returncode
    finally:
        laptop.run("ip", "route", "del", f"{there}/32")
        guest.run("ip", "address", "del", there, "dev", "lo")
        trip.mesh.admin("gateway", "remove", "laptop", "egress", "--yes")
        for host in (laptop, trip.home):
            host.run("nmk", "checkin")


MIDDLE = """
import socket, struct, sys
target, port = sys.argv[1], int(sys.argv[2])
for source in sys.argv[3:]:
    raw = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_TCP)
    raw.bind((source, 0))
    data = struct.pack("!HHIIBBHHH", port, 4711, 1, 1, 5 << 4, 0x18, 999, 0, 0) + b"secret"
    try:
        raw.sendto(data, (target, 0))
    except OSError:
        pass
"""


def test_a_connection_that_began_in_the_tunnel_does_not_go_on_beside_it(trip: Trip) -> None:
    """Where the kernel has forgotten it: not one that a caller from outside began before."""
    assert trip.cafe.router
    trip.set("exit-node=home")
    mesh, own = trip.mesh.address("laptop"), trip.laptop.address
    ports = trip.laptop.read("/proc/sys/net/ipv4/ip_local_port_range").split()
    for lowest, port, outside in ((ports[0], 20001, [own]), ("20000", 20002, [])):
        trip.laptop.run("sysctl", f"net.ipv4.ip_local_port_range={lowest} {ports[1]}")
        trip.laptop.run("nmk", "checkin")
        talk = ("python3", "-c", MIDDLE, trip.web.address, str(port), mesh, str(own))
        with (
            captured(trip.laptop, INTERFACE, "tcp port 4711") as inside,
            captured(trip.cafe.router, "eth1", "tcp port 4711") as beside,
        ):
            trip.laptop.run(*talk)
        assert [p.source for p in beside.of(mesh, own)] == outside
        assert len(inside.of(mesh)) == 1
    trip.laptop.run("sysctl", f"net.ipv4.ip_local_port_range={' '.join(ports)}")


def _link_local(router: Host) -> str:
    shown = router.run("ip", "-6", "address", "show", "dev", "eth1", "scope", "link").stdout
    return shown.split("inet6 ")[1].partition("/")[0]


def test_leave_takes_it_all_away(trip: Trip) -> None:
    trip.set("exit-node=home", "kill-switch=on")
    trip.laptop.run("nmk", "leave")
    assert trip.laptop.run("nft", "list", "ruleset").stdout == ""
    assert "lookup main suppress" not in trip.laptop.run("ip", "rule").stdout
    mark = trip.laptop.read("/proc/sys/net/ipv4/conf/all/src_valid_mark")
    assert mark.strip() == "0"
    reaches(trip.laptop, trip.web.address)
    trip.rejoin()


def test_only_the_owner_opens_the_kill_switch(trip: Trip) -> None:
    trip.set("exit-node=home", "kill-switch=on")
    trip.mesh.admin("node", "delete", "laptop", "--yes")
    with trip.talking() as capture:
        for _ in range(2):
            done = trip.laptop.run("nmk", "checkin", check=False)
            assert (done.returncode, "was deleted on the controller" in done.stderr) == (1, True)
            assert done.stderr.endswith(f"{SHUT}\n  try: nmk leave -n home\n")
        assert not _has_tunnel(trip.laptop)
        assert trip.laptop.run("ping", "-c1", "-W1", trip.web.address, check=False).returncode
    assert trip.leaks(capture) == []
    shown = status(trip.laptop)
    assert _asked(shown) == {"node": None, "problem": "the interface is not up"}
    assert shown["cut_off"] == {"by": "kill switch", "next": "nmk leave -n home"}
    assert told(trip.laptop, "gateway")["mend"] == "nmk leave -n home"
    trip.laptop.run("nmk", "leave")
    reaches(trip.laptop, trip.web.address)
    assert trip.laptop.run("nft", "list", "ruleset").stdout == ""
    trip.rejoin()


def test_a_state_that_cannot_be_read_keeps_nobody_shut_in(trip: Trip, full: bool) -> None:
    """Down, and open, and out of the network: each with a file that says little or nothing."""
    trip.set("exit-node=home", "kill-switch=on")
    laptop, good = trip.laptop, trip.laptop.read(STATE)
    for damaged in ("garbage", good[: len(good) // 2])[: 2 if full else 1]:
        laptop.write(STATE, damaged, mode=0o600)
        assert status(laptop)["state"] == "damaged"
        found = json.loads(laptop.run("nmk", "doctor", "-o", "json", check=False).stdout)
        assert [f["level"] for f in found if f["network"] == "home"] == ["broken"]
        assert "home.json is damaged" in failure(laptop, "up").message
        assert OPENS in laptop.run("nmk", "down").stderr
        assert not _has_tunnel(laptop)
        assert laptop.run("ping", "-c1", "-W1", trip.web.address, check=False).returncode
        laptop.run("nmk", "set", "kill-switch=off")
        reaches(laptop, trip.web.address)
        assert laptop.run("nft", "list", "ruleset").stdout == ""
        laptop.write(STATE, good, mode=0o600)
        laptop.run("nmk", "checkin")
        assert _has_tunnel(laptop)
    laptop.write(STATE, "garbage", mode=0o600)
    assert "nmk leave -n home --force" in failure(laptop, "leave").hint
    laptop.run("nmk", "leave", "--force")
    assert not _has_tunnel(laptop)
    assert laptop.run("nft", "list", "ruleset").stdout == ""
    assert "fwmark" not in laptop.run("ip", "rule").stdout
    assert "lookup main suppress" not in laptop.run("ip", "-6", "rule").stdout
    reaches(laptop, trip.web.address)
    assert laptop.run("ls", "-A", "/var/lib/nmk", check=False).stdout == ""
    trip.mesh.admin("node", "delete", "laptop", "--yes")
    trip.rejoin()


def test_what_a_state_that_is_put_back_does_not_know_of_goes(trip: Trip) -> None:
    """Of before the exit node, of when the network had another place, and of another identity."""
    laptop, before = trip.laptop, trip.laptop.read(STATE)
    moved = re.sub(r'"order": ?1\b', '"order":7', before)
    for old, command in ((before, ["checkin"]), (moved, ["checkin"]), (moved, ["set", "mtu=1400"])):
        trip.set("exit-node=home", "kill-switch=on")
        assert laptop.read(STATE) != old
        laptop.write(STATE, old, mode=0o600)
        laptop.run("nmk", *command)
        laptop.run("nmk", "checkin")
        reaches(laptop, trip.web.address)
        assert "chain kill" not in laptop.run("nft", "list", "ruleset").stdout
        rules = laptop.run("ip", "rule").stdout
        assert "fwmark" not in rules, rules
    trip.set("exit-node=home")
    laptop.run("nmk", "leave")
    trip.rejoin()
    trip.set("exit-node=home")
    laptop.write(STATE, before, mode=0o600)
    assert "deleted" in failure(laptop, "checkin").message
    assert not _has_tunnel(laptop)
    reaches(laptop, trip.web.address)
    laptop.run("nmk", "leave", "--force")
    for node in trip.mesh.nodes():
        if node.startswith("laptop"):
            trip.mesh.admin("node", "delete", node, "--yes")
    trip.rejoin()


def test_nobody_behind_the_exit_node_begins_anything(trip: Trip) -> None:
    trip.set("exit-node=home")
    reaches(trip.laptop, trip.web.address)
    inside = trip.mesh.address("laptop")
    trip.web.run("ip", "route", "add", inside, "via", trip.home.address)
    with captured(trip.laptop, INTERFACE, "icmp") as capture:
        assert trip.web.run("ping", "-c2", "-W1", inside, check=False).returncode
    assert [p.source for p in capture.packets] == [trip.web.address] * 2, "they came, and no answer"
    reaches(trip.home, inside)
    trip.web.run("ip", "route", "del", inside)


def test_other_networks_go_on_beside_an_exit_node(trip: Trip) -> None:
    lan = trip.lab.lan("far", "192.168.70.0/24")
    desk = trip.lab.host("desk", on=lan)
    trip.mesh.admin("network", "create", "work", "10.45.0.0/24")
    key = trip.mesh.admin("key", "create", "-n", "work", "--uses", "2")
    far = trip.mesh.machine("far-door")
    far.attach(lan)
    for host in (far, trip.laptop):
        host.run("nmk", "join", "-", input=key)
    try:
        trip.mesh.admin("gateway", "add", "-n", "work", "far-door", "egress", "192.168.70.0/24")
        for host in (far, trip.laptop):
            host.run("nmk", "checkin", "-n", "work")
        trip.laptop.run("nmk", "set", "-n", "home", "exit-node=home", "kill-switch=on")
        reaches(trip.laptop, "10.45.0.1")
        reaches(trip.laptop, desk.address)
        reaches(trip.laptop, trip.web.address)
        assert open_rules(trip.laptop) == []
        _stays_shut_to_who_calls_from_outside(trip)
        trip.laptop.run("nmk", "set", "-n", "home", "exit-node=", "kill-switch=")
        assert len(open_rules(trip.laptop)) == 1  # of work, which leads to a range
    finally:
        trip.laptop.run("rm", "-f", "/etc/nmk/home.toml")
        trip.laptop.run("nmk", "leave", "-n", "work")


def test_an_exit_node_is_no_way_into_its_other_networks_wherever_their_states_are(
    trip: Trip,
) -> None:
    trip.mesh.admin("network", "create", "lab", "10.46.0.0/24")
    key = trip.mesh.admin("key", "create", "-n", "lab", "--uses", "2")
    far = trip.mesh.machine("far-lab")
    for host in (far, trip.home):
        host.run("nmk", "join", "-", input=key)
    move = "mkdir -p /opt/state && mv /var/lib/nmk/lab.* /opt/state"
    back = "mv /opt/state/lab.* /var/lib/nmk && rm -r /opt/state /run/nmk/lab.state"
    trip.home.run("sh", "-c", move)
    try:
        trip.home.run("env", "NMK_STATE_DIR=/opt/state", "nmk", "checkin")
        for host in (trip.home, far):
            host.run("nmk", "checkin")
        trip.set("exit-node=home")
        reaches(trip.home, "10.46.0.1")
        reaches(trip.laptop, trip.web.address)
        assert trip.laptop.run("ping", "-c2", "-W1", "10.46.0.1", check=False).returncode
    finally:
        trip.home.run("sh", "-c", back)  # as reliability.md has it
        trip.home.run("nmk", "checkin", "-n", "lab")
        trip.home.run("nmk", "leave", "-n", "lab")


def test_a_state_that_is_put_back_in_the_place_of_another_takes_nothing_of_that(trip: Trip) -> None:
    laptop, file = trip.laptop, "/var/lib/nmk/cabin.json"
    trip.mesh.admin("network", "create", "cabin", "10.47.0.0/24")
    trip.set("exit-node=home")
    laptop.run("nmk", "join", "-", input=trip.mesh.admin("key", "create", "-n", "cabin"))
    place = re.search(r'"order": ?\d+', laptop.read(STATE))
    assert place
    old = re.sub(r'"order": ?\d+', place[0], laptop.read(file))
    old = re.sub(r'"laid": ?\[[^]]*\]', '"laid":["filter","routes"]', old)
    for command in ("down", "up", "checkin", "leave"):
        laptop.write(file, old, mode=0o600)
        laptop.run("nmk", command, "-n", "cabin")
        assert f"dev {INTERFACE}" in laptop.run("ip", "route", "get", trip.web.address).stdout
        laptop.run("nmk", "checkin")
        assert f"dev {INTERFACE}" in laptop.run("ip", "route", "get", trip.web.address).stdout
    trip.set("exit-node=")
    reaches(laptop, trip.web.address)


def _stays_shut_to_who_calls_from_outside(trip: Trip) -> None:
    """What another network asks of the machine opens no kill switch."""
    laptop, file = trip.laptop, "/etc/nmk/home.toml"

    def call() -> int:
        """By a LAN that is none, as its addresses are public."""
        caller = ("ping", "-c2", "-W1", "-i0.2", str(laptop.address6))
        return trip.guest.run(*caller, check=False).returncode

    for _ in range(2):
        assert call(), "it answers past the kill switch"
        laptop.run("nmk", "checkin")
    laptop.run("nmk", "set", "-n", "home", "kill-switch=")
    assert not call()
    laptop.write(file, 'kill-switch = "on"\n')
    laptop.run("nmk", "checkin", "-n", "home")  # the other network has not heard of it
    assert call(), "it answers past the kill switch"
    laptop.run("rm", file)
    laptop.run("nmk", "checkin")
    assert not call()


def open_rules(host: Host) -> list[str]:
    """The rules by which all that the main table knows goes before the networks' ranges."""
    rules = host.run("ip", "-4", "rule", "show").stdout.splitlines()
    return [r for r in rules if "from all lookup main suppress_prefixlength 0" in r]


def test_of_a_family_that_the_network_has_not_nothing_leaves(trip: Trip) -> None:
    trip.mesh.admin("network", "create", "four", "10.44.0.0/24")
    key = trip.mesh.admin("key", "create", "-n", "four", "--uses", "2")
    for host in (trip.home, trip.laptop):
        host.run("nmk", "join", "-", input=key)
    trip.mesh.admin("gateway", "add", "-n", "four", "home", "exit")
    for host in (trip.home, trip.laptop):
        host.run("nmk", "checkin", "-n", "four")
    trip.laptop.run("nmk", "set", "-n", "four", "exit-node=home")
    try:
        reaches(trip.laptop, trip.web.address)
        with trip.talking() as capture:
            six = trip.laptop.run("ping", "-6", "-c1", "-W1", str(trip.web.address6), check=False)
            assert six.returncode
            reaches(trip.laptop, trip.web.address)
        assert trip.leaks(capture) == []
    finally:
        trip.laptop.run("nmk", "leave", "-n", "four")
    reaches(trip.laptop, str(trip.web.address6))


def _own(host: Host) -> tuple[str | None, ...]:
    return host.address, host.address6


def _asked(shown: dict[str, Any]) -> dict[str, Any]:
    """What status says of the wish, without what the kernel does."""
    return {name: shown["exit"][name] for name in ("node", "problem")}


def _has_tunnel(host: Host) -> bool:
    return host.run("test", "-e", f"/sys/class/net/{INTERFACE}", check=False).returncode == 0
