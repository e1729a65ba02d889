"""What a gateway's neighbours, other nodes and a controller cannot do."""

from __future__ import annotations

import json

import pytest

from tests.gateways.capture import captured
from tests.gateways.sites import check_in, status, told
from tests.lab import Host
from tests.mesh import INTERFACE, Mesh, failure, reaches

SEND = """
import socket, struct, sys
source, target = (socket.inet_aton(a) for a in sys.argv[1:3])
udp = struct.pack("!HHHH", 9, 9, 8 + 5, 0) + b"spoof"
ip = struct.pack("!BBHHHBBH4s4s", 0x45, 0, 20 + len(udp), 1, 0, 64, 17, 0, source, target)
raw = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW)
raw.sendto(ip + udp, (sys.argv[2], 0))
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
        for source in (phone, "192.168.60.9", desk.address):
            desk.run("python3", "-c", SEND, source, target)
        reaches(laptop, desk.address)
    assert [p.source for p in capture.packets] == [desk.address]
    mesh.admin("extclient", "set", "phone", "routes=")
    check_in(gateway, laptop)


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
    obstacle = "the interface that it shall route by is not there"
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
