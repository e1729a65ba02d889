"""What the packet filter must not do to others' packets, and what it must not let out."""

from __future__ import annotations

import pytest

from tests.gateways.capture import captured
from tests.gateways.sites import check_in, give, make_site, source_seen, take
from tests.lab import Host, Lab
from tests.mesh import Mesh, reaches

CALLER = "198.51.100.9"  # outside of all LANs
PUBLISHED = """
table ip theirs {
    chain published {
        type nat hook prerouting priority dstnat;
        iifname "eth0" udp dport 8080 dnat to 172.17.0.2:80
    }
}
"""
ANSWER = """
import socket, time
sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
sock.bind(("172.17.0.2", 80))
print("bound", flush=True)
caller = sock.recvfrom(9)[1]
while True:
    sock.sendto(b"more", caller)
    time.sleep(0.01)
"""
CALL = """
import socket, sys
sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
sock.bind((sys.argv[1], 9))
sock.settimeout(60)
sock.sendto(b"call", (sys.argv[2], 8080))
sock.recvfrom(9)
"""


@pytest.fixture(scope="module")
def laptop(lab: Lab, mesh: Mesh) -> Host:
    """A machine that publishes a container, and knows of an exit node and of a range."""
    home = mesh.join(mesh.machine("home"))
    cafe = lab.lan("cafe", "192.168.1.0/24", nat="port-restricted", behind=mesh.internet)
    laptop = mesh.machine("laptop", on=cafe)
    lab.host("guest", on=cafe)
    bridge = lab.lan("bridge", "172.17.0.0/16")
    laptop.attach(bridge, "172.17.0.1")
    container = lab.host("container", on=bridge, address="172.17.0.2")
    container.run("ip", "route", "replace", "default", "via", "172.17.0.1")
    laptop.run("sysctl", "net.ipv4.ip_forward=1")
    laptop.run("nft", "-f", "-", input=PUBLISHED)
    mesh.join(laptop)
    mesh.admin("gateway", "add", "home", "exit")
    give(mesh, "home", "192.168.99.0/24")
    check_in(home, laptop)
    return laptop


def test_a_kill_switch_ends_what_a_container_was_asked_from_outside(lab: Lab, laptop: Host) -> None:
    guest = lab.hosts["guest"]
    guest.run("ip", "address", "add", f"{CALLER}/32", "dev", "lo")
    laptop.route(f"{CALLER}/32", guest.address)
    laptop.run("nmk", "set", "exit-node=home")
    lab.hosts["container"].start("python3", "-c", ANSWER).wait_for("bound")
    guest.run("python3", "-c", CALL, CALLER, laptop.address)
    with captured(guest, "eth0", "udp port 8080") as capture:
        reaches(laptop, guest.address)
    assert capture.packets
    laptop.run("nmk", "set", "kill-switch=on")
    with captured(guest, "eth0", "udp port 8080") as capture:
        reaches(laptop, guest.address)
    laptop.run("nmk", "set", "exit-node=", "kill-switch=")
    assert capture.packets == []


def test_who_calls_by_another_mesh_is_answered_there(mesh: Mesh, laptop: Host) -> None:
    mesh.admin("network", "create", "second", "10.99.0.0/16")
    site = make_site(mesh, "site", 60)
    site.gateway.run("nmk", "leave")
    for host in (site.gateway, laptop):
        mesh.join(host, token=mesh.admin("key", "create", "-n", "second").strip())
    name = site.gateway.name
    mesh.admin("gateway", "add", "-n", "second", name, "egress", "192.168.60.0/24", "--nat", "off")
    check_in(site.gateway, laptop, site.gateway)
    [address] = mesh.json("node", "show", "-n", "second", "laptop")["addresses"]
    site.host.run("ip", "route", "add", "10.99.0.0/16", "via", site.gateway_address(4))
    reaches(site.host, address)


def test_hosts_of_a_gateways_lans_see_each_other_as_they_are(mesh: Mesh) -> None:
    site = make_site(mesh, "left", 70)
    lan = mesh.lab.lan("right", "192.168.71.0/24")
    site.gateway.attach(lan, "192.168.71.2")
    right = mesh.lab.host("host-right", on=lan)
    right.run("ip", "route", "add", "default", "via", "192.168.71.2")
    site.host.run("ip", "route", "add", "192.168.71.0/24", "via", site.gateway_address(4))
    other = mesh.join(mesh.machine("other"))
    for gateway, metric in ((site.gateway, "100"), (other, "200")):
        ranges = "192.168.70.0/24", "192.168.71.0/24"
        give(mesh, gateway.name, *ranges, "--same-lan", "--metric", metric)
    check_in(site.gateway)
    assert source_seen(site.host, right, right.address) == site.address(4)
    take(mesh, site.gateway.name)


def test_who_is_called_at_his_router_is_told_what_that_takes(mesh: Mesh, laptop: Host) -> None:
    told = mesh.controller.run("nmk", "gateway", "add", "-n", "home", laptop.name, "ingress").stderr
    [row] = [r for r in mesh.json("gateway", "list", "-n", "home") if r["role"] == "ingress"]
    host, _, port = row["called_at"].rpartition(":")
    assert host not in laptop.run("ip", "address").stdout
    assert f"{host} is not its own: its router has to pass on UDP port {port}" in told
    assert f"nmk gateway add -n home {laptop.name} ingress --endpoint HOST:PORT" in told
