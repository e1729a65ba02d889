"""Connections that are there when an exit node, or a kill switch, comes or goes."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.gateways.sites import status, told
from tests.lab import Host, Lab, patient
from tests.mesh import INTERFACE, Mesh, reaches

TRACKED = "add table inet theirs; add chain inet theirs in { type filter hook input priority 0; }; \
add rule inet theirs in ct state established,related accept"


class Server:
    """A machine that somebody outside administers, its exit node, and that somebody."""

    def __init__(self, lab: Lab, mesh: Mesh) -> None:
        office = lab.lan("office", "192.168.9.0/24", cidr6="2001:db8:9::/64", behind=mesh.internet)
        self.admin = lab.host("admin", on=office)  # not a neighbour: neighbours are never led away
        self.way = mesh.join(mesh.machine("way"))
        self.box = mesh.join(mesh.machine("box"))
        mesh.admin("gateway", "add", "way", "exit")
        for host in (self.way, self.box):
            host.run("nmk", "checkin")

    def set(self, *settings: str) -> None:
        self.box.run("nmk", "set", *settings)


@pytest.fixture(scope="module")
def server(lab: Lab, mesh: Mesh) -> Server:
    return Server(lab, mesh)


@contextmanager
def session(source: Host, target: Host, family: int, port: int) -> Iterator[list[socket.socket]]:
    """A TCP connection: the caller's end, and the other one."""
    kind = socket.AF_INET if family == 4 else socket.AF_INET6
    address = target.address if family == 4 else str(target.address6)
    with (
        target.socket(socket.SOCK_STREAM, kind) as listener,
        source.socket(socket.SOCK_STREAM, kind) as caller,
    ):
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((address, port))
        listener.listen()
        caller.settimeout(patient(20))
        caller.connect((address, port))
        callee, _ = listener.accept()
        with callee:
            callee.settimeout(patient(20))
            yield [caller, callee]


def speaks(source: socket.socket, target: socket.socket) -> None:
    """What one end says arrives at the other."""
    source.sendall(b"still there?")
    assert target.recv(100) == b"still there?"


@pytest.mark.parametrize("tracked", [True, False], ids=["tracked", "not-tracked"])
def test_sessions_from_outside_outlive_an_exit_node(server: Server, tracked: bool) -> None:
    if tracked:
        server.box.run("nft", TRACKED)
    with (
        session(server.admin, server.box, 4, 22) as four,
        session(server.admin, server.box, 6, 22) as six,
    ):
        for ends in (four, six):
            speaks(*ends)
        for setting in ("exit-node=way", "exit-node=", "exit-node=way", "kill-switch=on"):
            server.set(setting)
            if setting == "kill-switch=on":
                server.set("kill-switch=off")
            for caller, callee in (four, six):
                speaks(callee, caller)  # who was called speaks first: nobody types anything
                speaks(caller, callee)
    reaches(server.box, server.admin.address)
    server.set("exit-node=")
    if tracked:
        server.box.run("nft", "delete table inet theirs")


@pytest.mark.parametrize("tracked", [True, False], ids=["tracked", "not-tracked"])
def test_sessions_of_the_machine_itself_do_not_go_on_outside(server: Server, tracked: bool) -> None:
    if tracked:
        server.box.run("nft", TRACKED)
    with session(server.box, server.admin, 4, 4000) as (caller, callee):
        speaks(caller, callee)
        server.set("exit-node=way")
        callee.settimeout(2)
        caller.sendall(b"past the tunnel?")
        with pytest.raises(TimeoutError):
            callee.recv(100)
    server.set("exit-node=")
    if tracked:
        server.box.run("nft", "delete table inet theirs")


def test_status_says_what_the_kernel_does_beside_what_was_asked(server: Server) -> None:
    """Another VPN that leads everything away by halves, as OpenVPN does it, then by a rule."""
    server.set("exit-node=way")
    assert status(server.box)["exit"]["past"] == []
    assert [one["by"] for one in status(server.box)["exit"]["leaves"]] == [[INTERFACE]] * 2
    server.box.run("ip", "link", "add", "tun0", "type", "veth", "peer", "far0")
    server.box.run("ip", "link", "set", "tun0", "up")
    for half in ("0.0.0.0/1", "128.0.0.0/1"):
        server.box.run("ip", "route", "add", half, "dev", "tun0")
    assert status(server.box)["exit"]["past"] == []
    server.box.run("ip", "rule", "add", "priority", "99", "table", "main")
    found = status(server.box)["exit"]
    assert (found["node"], found["problem"], found["past"]) == (
        "way",
        "IPv4 leaves by tun0 (rule priority 99 table main)",
        ["tun0"],
    )
    assert found["leaves"][0] == {"family": 4, "by": ["tun0"], "tunnel": "tun0"}
    assert found["leaves"][1]["by"] == [INTERFACE]
    shown = server.box.run("nmk", "status").stdout
    assert "exit        way is asked for, but IPv4 leaves by tun0" in shown
    doctor = told(server.box, "gateway")
    assert doctor["level"] == "broken"
    assert "(rule priority 99 table main), not by the exit node way" in doctor["reason"]
    assert doctor["mend"].startswith("ip -4 rule del priority 99 table main; or end ")
    server.box.run("ip", "rule", "del", "priority", "99")
    server.box.run("ip", "link", "delete", "tun0")
    assert status(server.box)["exit"]["problem"] is None
    server.set("exit-node=")


@pytest.mark.parametrize("home", ["inet firewalld", "ip6 raw"])
def test_a_strict_filter_that_ends_the_tunnel_is_named(server: Server, home: str) -> None:
    """As firewalld lays it for IPv6, and ip6tables with rpfilter."""
    server.set("exit-node=way")
    assert told(server.box, "reverse-path")["level"] == "ok"
    name = home.split()[1]
    if name == "firewalld":
        rule = "meta nfproto ipv6 fib saddr . mark . iif oif missing drop"
        hook = "{ type filter hook prerouting priority -290; }"
        server.box.run("nft", f"add table {home}; add chain {home} before {hook};")
        server.box.run("nft", f"add rule {home} before {rule}")
    else:
        rule = "-t raw -A PREROUTING -m rpfilter --invert -j DROP"
        server.box.run("ip6tables", *rule.split())
    found = told(server.box, "reverse-path")
    assert found["level"] == "broken"
    assert found["reason"].startswith(f"{home} ")
    assert "with the exit node way it drops what comes for WireGuard" in found["reason"]
    assert "by IPv6:" in found["reason"]
    if name == "firewalld":
        assert rule in found["reason"]
        assert "IPv6_rpfilter" in found["mend"]
    server.set("exit-node=")
    server.box.run("nft", f"delete table {home}")
