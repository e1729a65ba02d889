"""What a gateway's neighbours, other nodes and a controller cannot do."""

from __future__ import annotations

import json
from ipaddress import ip_network

import pytest

from tests.gateways import forged
from tests.gateways.capture import captured
from tests.gateways.sites import check_in, status, told
from tests.lab import Host
from tests.mesh import INTERFACE, Mesh, failure, reaches

SEND = """
import socket, struct, sys
source, target = (socket.inet_aton(a) for a in sys.argv[1:3])
port = int(sys.argv[3]) if sys.argv[3:] else 9
udp = struct.pack("!HHHH", port, port, 8 + 5, 0) + b"spoof"
ip = struct.pack("!BBHHHBBH4s4s", 0x45, 0, 20 + len(udp), 1, 0, 64, 17, 0, source, target)
raw = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW)
raw.sendto(ip + udp, (sys.argv[2], 0))
"""
LISTENER = """
import select, socket, sys
sockets = {socket.socket(socket.AF_INET, socket.SOCK_DGRAM): name for name in sys.argv[1:]}
for one, name in sockets.items():
    one.bind((name, 4711))
print("listening", flush=True)
while True:
    for one in select.select([*sockets], [], [])[0]:
        one.recv(9)
        print(sockets[one], "heard", flush=True)
"""


@pytest.fixture(scope="module")
def gateway(mesh: Mesh) -> Host:
    lan = mesh.lab.lan("office", "192.168.50.0/24")
    host = mesh.machine("door")
    host.attach(lan, "192.168.50.2")
    mesh.lab.host("desk", on=lan)
    mesh.join(host)
    mesh.join(mesh.machine("laptop"))
    mesh.admin("gateway", "add", "door", "ingress")
    mesh.admin("gateway", "add", "door", "egress", "192.168.50.0/24")
    mesh.admin("extclient", "create", "phone")
    check_in(host, mesh.lab.hosts["laptop"])
    return host


def test_no_neighbour_gets_in_under_an_address_of_the_mesh_or_behind_it(
    mesh: Mesh, gateway: Host
) -> None:
    desk, laptop = mesh.lab.hosts["desk"], mesh.lab.hosts["laptop"]
    gateway.run("sysctl", "net.ipv4.conf.all.rp_filter=0", "net.ipv4.conf.eth1.rp_filter=0")
    target = mesh.address("laptop")
    phone = json.loads(mesh.admin("extclient", "show", "phone", "-o", "json"))["addresses"][0]
    desk.route(f"{target}/32", "192.168.50.2")
    mesh.admin("extclient", "set", "phone", "routes=192.168.60.0/24")
    check_in(gateway, laptop)
    with captured(laptop, INTERFACE, "udp port 9") as capture:
        for claim in ([], ["192.168.60.1/24"]):  # as the LAN's DHCP server gives it
            for address in claim:
                gateway.run("ip", "address", "add", address, "dev", "eth1")
            gateway.run("nmk", "checkin")
            for source in (phone, "192.168.60.9", desk.address):
                desk.run("python3", "-c", SEND, source, target)
        reaches(laptop, desk.address)
    assert [p.source for p in capture.packets] == [desk.address] * 2
    gateway.run("ip", "address", "del", "192.168.60.1/24", "dev", "eth1")
    mesh.admin("extclient", "set", "phone", "routes=")
    check_in(gateway, laptop)


def test_a_neighbour_is_no_node_whatever_source_it_gives(mesh: Mesh, gateway: Host) -> None:
    """Nor is it passed on and translated as one, where no reverse path filter looks.

    Not where a LAN at another interface has the node's address either.
    """
    stranger, desk = mesh.lab.host("stranger", on=mesh.internet), mesh.lab.hosts["desk"]
    node, inside = mesh.address("laptop"), mesh.address("door")
    gateway.run("sysctl", "net.ipv4.conf.all.rp_filter=0", "net.ipv4.conf.eth0.rp_filter=0")
    for target in (desk.address, inside):
        stranger.route(f"{target}/32", gateway.address)
    claim = f"{ip_network(f'{node}/31', strict=False)[1]}/31"  # by the LAN's DHCP server
    for claims in (False, True):
        if claims:
            gateway.run("ip", "address", "add", claim, "dev", "eth1")
            gateway.run("nmk", "checkin")
        here = gateway.start("python3", "-c", LISTENER, inside, gateway.address)
        there = desk.start("python3", "-c", LISTENER, desk.address)
        for one in (here, there):
            one.wait_for("listening")
        with captured(desk, "eth0", "udp port 4711") as capture:
            for source, target in (
                *((node, desk.address), (inside, desk.address), (stranger.address, desk.address)),
                *((node, inside), (stranger.address, gateway.address)),
            ):
                stranger.run("python3", "-c", SEND, source, target, "4711")
            there.wait_for(f"{desk.address} heard")
            here.wait_for(f"{gateway.address} heard")
        for one in (here, there):
            one.kill()
        assert f"{inside} heard" not in here.output
        assert [p.source for p in capture.packets] == [stranger.address]
    gateway.run("ip", "address", "del", claim, "dev", "eth1")
    gateway.run("nmk", "checkin")


def serving(mesh: Mesh) -> set[tuple[str, str]]:
    """What the controller tells of the gateways' roles, and why they do not play them."""
    told = {True: "yes", False: "no", None: "-"}
    rows = mesh.json("gateway", "list")
    return {(told[row["serves"]], row["obstacle"] or "-") for row in rows}


def test_the_owner_need_not_be_a_gateway(mesh: Mesh, gateway: Host) -> None:
    laptop, desk = mesh.lab.hosts["laptop"], mesh.lab.hosts["desk"]
    reaches(laptop, desk.address)
    gateway.run("nmk", "checkin")
    assert serving(mesh) == {("yes", "-")}
    gateway.run("nmk", "set", "accept-roles=off")
    assert laptop.run("ping", "-c1", "-W1", desk.address, check=False).returncode
    assert "table inet" not in gateway.run("nft", "list", "ruleset").stdout
    assert gateway.read("/proc/sys/net/ipv4/ip_forward") == "0\n"
    shown = status(gateway)
    assert (shown["roles"], shown["offered"]) == ([], ["ingress", "egress"])
    assert shown["obstacle"] == "its owner has accept-roles=off"
    line = "not ingress, egress: its owner has accept-roles=off"
    assert f"gateway     {line}\n" in gateway.run("nmk", "status").stdout
    found = told(gateway, "gateway")
    assert found["level"] == "ok"
    assert "not ingress, egress, as its owner has accept-roles=off" in found["reason"]
    gateway.run("nmk", "checkin")
    assert serving(mesh) == {("no", "its owner has accept-roles=off")}
    gateway.run("nmk", "set", "accept-roles=")
    reaches(laptop, desk.address)


def test_an_interface_that_is_not_there_is_told_by_the_gateway(mesh: Mesh, gateway: Host) -> None:
    mesh.admin("gateway", "add", "door", "egress", "--interface", "eth7")
    for _ in range(2):
        gateway.run("nmk", "checkin")
    obstacle = "the interface that it shall route by, eth7, is not there"
    assert serving(mesh) == {("yes", "-"), ("no", obstacle)}
    assert status(gateway)["obstacle"] == f"egress does not serve: {obstacle}"
    found = told(gateway, "gateway")
    assert found["level"] == "broken"
    assert found["reason"] == "there is no interface eth7, so egress forwards nothing"
    where, _, command = found["mend"].partition(": ")
    assert where == "on the controller"
    mesh.controller.run("sh", "-c", command)
    for _ in range(2):
        gateway.run("nmk", "checkin")
    assert serving(mesh) == {("yes", "-")}
    assert told(gateway, "gateway")["level"] == "ok"


def test_what_is_taken_down_is_not_shown_as_if_it_were_there(mesh: Mesh, gateway: Host) -> None:
    laptop = mesh.lab.hosts["laptop"]
    for host in (gateway, laptop):
        host.run("nmk", "down")
        found = told(host, "gateway")
        assert (found["level"], found["mend"]) == ("ok", None)
        assert found["reason"].startswith("nmk-home is down: nothing is routed here")
    shown = status(gateway)
    assert (shown["roles"], shown["obstacle"]) == ([], "the interface is not up")
    assert [client["state"] for client in shown["clients"]] == ["off"]
    [route] = status(laptop)["routes"]
    assert (route["gateway"], route["reason"]) == (None, "the interface is not up")
    for host in (gateway, laptop):
        host.run("nmk", "up")
    assert status(laptop)["routes"][0]["gateway"] == "door"


def test_ping_tells_what_is_behind_a_gateway_from_nodes(mesh: Mesh, gateway: Host) -> None:
    laptop, desk = mesh.lab.hosts["laptop"], mesh.lab.hosts["desk"]
    reaches(laptop, desk.address)
    assert failure(laptop, "ping", desk.address) == (
        1,
        f"'{desk.address}' is no node of home; it is in 192.168.50.0/24, which door routes",
        f"nmk ping -n home door; ping {desk.address}",
    )
    works = "the tunnel to its gateway door works"
    look = "on the device: is its WireGuard app on? On the controller: nmk extclient show -n home "
    assert failure(laptop, "ping", "phone", "-c", "1") == (
        1,
        f"phone does not answer: {works}, and phone does not answer there",
        f"{look}phone",
    )
    path = laptop.run("nmk", "ping", "phone", "-c", "1", check=False).stdout
    assert f"path: by its gateway door, {gateway.address}:51821 (" in path
    assert failure(gateway, "ping", "phone", "-c", "1")[1:] == (
        "phone does not answer: it has never called this machine, its gateway",
        f"{look}phone",
    )


@pytest.fixture(scope="module")
def laptop(mesh: Mesh, gateway: Host) -> Host:
    """A node of both networks of the gateway's machine, for which `other` has no role at first."""
    found = mesh.lab.hosts["laptop"]
    mesh.admin("network", "create", "other", "10.99.0.0/24")
    for host, named in ((gateway, ["--interface", "wg7"]), (found, [])):
        mesh.join(host, *named, token=mesh.admin("key", "create", "-n", "other").strip())
    mesh.lab.hosts["desk"].route("10.99.0.0/24", "192.168.50.2")
    check_in(gateway, found)
    return found


def lead(host: Host, network: str, gateway: Host, cidr: str) -> None:
    """Send a range to a peer, whatever the network says: as root of one's own machine may."""
    there = {"home": "nmk-home", "other": "wg7"}[network]
    key = gateway.run("wg", "show", there, "public-key").stdout.strip()
    lines = host.run("wg", "show", f"nmk-{network}", "allowed-ips").stdout.splitlines()
    old = [word for line in lines if line.startswith(key) for word in line.split()[1:]]
    ranges = ",".join({*old, cidr})
    host.run("wg", "set", f"nmk-{network}", "peer", key, "allowed-ips", ranges)
    host.run("ip", "route", "replace", cidr, "dev", f"nmk-{network}")


def got(laptop: Host, *targets: str) -> set[str]:
    """Which of the addresses answer the laptop."""
    return {t for t in targets if laptop.run("ping", "-c1", "-W1", t, check=False).returncode == 0}


def test_nothing_is_forwarded_for_a_network_that_gives_the_machine_no_role(
    mesh: Mesh, gateway: Host, laptop: Host
) -> None:
    desk = mesh.lab.hosts["desk"].address
    lead(laptop, "other", gateway, f"{desk}/32")
    assert got(laptop, desk) == set()
    mesh.admin("gateway", "add", "-n", "other", "door", "egress", f"{desk}/32")
    check_in(gateway)
    reaches(laptop, desk)
    mesh.admin("gateway", "remove", "-n", "other", "door", "egress", "--yes")
    gateway.run("nmk", "checkin", "-n", "other")
    assert got(laptop, desk) == set()


def test_a_network_whose_state_is_damaged_stays_apart(
    mesh: Mesh, gateway: Host, laptop: Host
) -> None:
    file, desk = "/var/lib/nmk/other.json", mesh.lab.hosts["desk"].address
    whole = gateway.read(file)
    before = gateway.run("nft", "list", "table", "inet", "nmk-home").stdout.count('"wg7"')
    for damaged in (whole[:200], "", whole.replace('"version": 1', '"version": 99')):
        gateway.write(file, damaged, mode=0o600)
        gateway.run("nmk", "checkin", "-n", "home")
        after = gateway.run("nft", "list", "table", "inet", "nmk-home").stdout
        assert after.count('"wg7"') == before > 0
    lead(laptop, "other", gateway, f"{desk}/32")
    assert got(laptop, desk) == set()
    gateway.write(file, whole, mode=0o600)
    check_in(gateway)


def test_a_machine_that_forwards_for_its_own_reasons_does_not_for_the_network(
    mesh: Mesh, gateway: Host, laptop: Host
) -> None:
    desk = mesh.lab.hosts["desk"]
    cloud = "168.63.129.16"
    desk.run("ip", "address", "add", f"{cloud}/32", "dev", "lo")
    gateway.route(f"{cloud}/32", desk.address)
    gateway.run("nmk", "set", "-n", "home", "accept-roles=off")
    assert "table inet" not in gateway.run("nft", "list", "tables").stdout
    gateway.run("sysctl", "net.ipv4.ip_forward=1")
    check_in(gateway)
    for network in ("home", "other"):
        lead(laptop, network, gateway, f"{desk.address}/32")
        lead(laptop, network, gateway, f"{cloud}/32")
        assert got(laptop, desk.address, cloud) == set()
    reaches(gateway, cloud)
    reaches(laptop, mesh.address("door"))
    gateway.run("nmk", "down", "-n", "other")
    assert gateway.run("nft", "list", "tables").stdout == "table inet nmk-home\n"
    gateway.run("nmk", "up", "-n", "other")
    gateway.run("sysctl", "net.ipv4.ip_forward=0")
    check_in(gateway)
    assert gateway.run("nft", "list", "tables").stdout == ""


def test_what_listens_on_loopback_alone_is_reached_by_nobody_in_the_mesh(
    mesh: Mesh, gateway: Host, laptop: Host
) -> None:
    """Not where others have let it be reached either, as kube-proxy has."""
    inside, here = mesh.address("door"), mesh.address("laptop")
    lead(laptop, "home", gateway, "127.0.0.1/32")
    gateway.run("nmk", "set", "-n", "home", "accept-roles=off")
    gateway.run("sysctl", "net.ipv4.conf.all.route_localnet=2")
    check_in(gateway)
    listens = gateway.start("python3", "-c", LISTENER, "127.0.0.1", inside)
    listens.wait_for("listening")
    for target in ("127.0.0.1", inside):
        forged.send(laptop, "nmk-home", forged.datagram(here, target, 4711))
    listens.wait_for(f"{inside} heard")
    listens.kill()
    assert "127.0.0.1 heard" not in listens.output
    gateway.run("sysctl", "net.ipv4.conf.all.route_localnet=0")
    check_in(gateway)
    assert gateway.run("nft", "list", "tables").stdout == ""


def test_who_forwards_and_can_have_no_filter_is_told_and_stays_in(laptop: Host) -> None:
    laptop.run("nmk", "set", "-n", "home", "accept-routes=off")
    laptop.run("sysctl", "net.ipv4.ip_forward=1", "net.ipv4.conf.all.route_localnet=2")
    laptop.run("mv", "/usr/sbin/nft", "/usr/sbin/nft.away")
    for fails in (None, "#!/bin/sh\necho no such protocol >&2\nexit 1\n"):
        if fails:
            laptop.write("/usr/sbin/nft", fails, mode=0o755)
        check_in(laptop)
        for found in json.loads(laptop.run("nmk", "status", "-o", "json").stdout):
            codes = [problem["code"] for problem in found["problems"]]
            assert codes == ["open-forwarding", "open-loopback"]
        assert told(laptop, "applied")["level"] == "warn"
        assert "this machine forwards" in told(laptop, "applied")["reason"]
    laptop.run("mv", "/usr/sbin/nft.away", "/usr/sbin/nft")
    check_in(laptop)
    assert told(laptop, "applied")["level"] == "ok"
    tables = laptop.run("nft", "list", "tables").stdout.splitlines()
    assert sorted(tables) == ["table inet nmk-home", "table inet nmk-other"]
    laptop.run("mv", "/usr/sbin/nft", "/usr/sbin/nft.away")
    check_in(laptop)  # what was laid is there, and nobody can look
    assert "nft is not installed" in told(laptop, "applied")["reason"]
    laptop.run("mv", "/usr/sbin/nft.away", "/usr/sbin/nft")
    laptop.run("sysctl", "net.ipv4.conf.all.route_localnet=0")


def test_a_table_that_only_has_a_networks_name_is_left_alone(laptop: Host) -> None:
    laptop.run("sysctl", "net.ipv4.ip_forward=0")
    check_in(laptop)
    laptop.run("sysctl", "net.ipv4.ip_forward=1")
    theirs = "table inet nmk-other {\n\tchain forward {\n\t}\n}\n"
    laptop.run("nft", "-f", "-", input=theirs)
    check_in(laptop)
    assert laptop.run("nft", "list", "table", "inet", "nmk-other").stdout == theirs
    assert "is not nmk's" in laptop.run("nmk", "status", "-n", "other").stdout
    laptop.run("sysctl", "net.ipv4.ip_forward=0")
    check_in(laptop)
    assert laptop.run("nft", "list", "table", "inet", "nmk-other").stdout == theirs
