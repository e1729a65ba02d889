"""Commands of the agent, stopped anywhere: the next run converges and leaves nothing behind."""

from __future__ import annotations

import json
from collections.abc import Callable
from itertools import count
from typing import Any

import pytest

from tests.lab import Host, Lab, poll
from tests.mesh import Mesh, has_interface, live_addresses, live_peers
from tests.reliability.killing import Subject

STATE = "/var/lib/nmk/home.json"
Stopped = Callable[[int], None]
NOTE = "/var/lib/nmk/home.kill-switch"  # whether one was wanted
UNFINISHED = "/var/lib/nmk/.home.json.tmp"
SEEN = {
    *("/var/lib/nmk/home.log", "/var/lib/nmk/.home.log.tmp"),
    *("/run/nmk/home.health", "/run/nmk/home.laid", "/run/nmk/home.link", "/run/nmk/instance"),
}
"""What `nmk log` and `nmk doctor` look at, which interface is ours; gone with the state."""


@pytest.fixture(scope="module")
def mesh(module_lab: Lab) -> Mesh:
    return Mesh(module_lab)


@pytest.fixture(scope="module")
def host(mesh: Mesh) -> Host:
    """A machine that may join; another one, `other`, is in the network."""
    mesh.join(mesh.machine("other"))
    host = mesh.machine("anna")
    host.run("mount", "-t", "tmpfs", "tmpfs", "/tmp")  # empty, unlike the machine's own
    host.run("nmk", "version")  # unpacked from now on
    return host


def state(host: Host) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(host.read(STATE))
    return found


def files(host: Host) -> set[str]:
    """All that nmk may have put on the machine; not its program, its lock, the tunnel's socket."""
    places = ("/var/lib/nmk", "/run/nmk", "/run/wireguard", "/tmp")
    found = host.run("find", *places, "-not", "-type", "d", check=False).stdout.split()
    return set(found) - {"/run/wireguard/nmk-home.sock", "/var/lib/nmk/lock"}


def assert_no_trace(host: Host) -> None:
    assert files(host) == set()
    assert not has_interface(host)
    poll(lambda: not host.run("pgrep", "wireguard-go", check=False).stdout, 5, "end of the tunnel")
    assert host.run("ls", "-A", "/run/wireguard", check=False).stdout == ""


def assert_steady(mesh: Mesh, host: Host) -> None:
    """One node, as the machine and the controller see it, and nothing left to do."""
    nodes = mesh.nodes()
    assert nodes.keys() == {"anna", "other"}
    addresses = [a for node in nodes.values() for a in node["addresses"]]
    assert len(addresses) == len(set(addresses))
    assert live_addresses(host) == nodes["anna"]["addresses"]
    assert len(live_peers(host, "allowed-ips")) == 1
    before = state(host)
    again = host.run("nmk", "checkin", "--verbose").stderr
    assert "[#]" not in again, again
    assert state(host) == before
    assert files(host) - SEEN == {STATE, NOTE}


def test_join(mesh: Mesh, host: Host, full: bool, stopped: Stopped) -> None:
    def uses() -> list[int]:
        keys = mesh.json("key", "list", "-n", "home")
        return [key["uses"] for key in keys if "anna" in key["nodes"]]

    def check(token: str) -> None:
        written = host.run("cat", STATE, check=False).stdout
        host.run("nmk", "join", "-", input=token)
        if written:
            assert state(host)["identity"] == json.loads(written)["identity"]
        assert uses() == [1]
        assert_steady(mesh, host)
        host.run("nmk", "leave")
        assert_no_trace(host)

    subject = Subject(host, ("join", "-"), lambda: mesh.token("--uses", "1"), check)
    stopped(subject.sweep(full=full))


def test_join_that_nobody_repeats(mesh: Mesh, host: Host, full: bool, stopped: Stopped) -> None:
    def check(_: str) -> None:
        if STATE in files(host):
            host.run("nmk", "leave")
        host.run("rm", "-f", UNFINISHED)  # its keys were never told to anyone; a join overwrites it
        assert_no_trace(host)
        assert mesh.nodes().keys() == {"other"}

    subject = Subject(host, ("join", "-"), lambda: mesh.token("--uses", "1"), check)
    stopped(subject.sweep(full=full))


@pytest.mark.parametrize(
    "options",
    [
        pytest.param((), id="deleted"),
        pytest.param(("--new-identity",), id="well", marks=pytest.mark.full),
    ],
)
def test_join_behind_a_kill_switch(
    mesh: Mesh, host: Host, full: bool, stopped: Stopped, options: tuple[str, ...]
) -> None:
    """Of a node that was deleted, or shall be a new one: whatever ends it the switch is shut."""
    mesh.admin("gateway", "add", "-n", "home", "other", "exit")

    def assert_shut() -> None:
        there = host.run("nft", "list", "table", "inet", "nmk-home").stdout
        assert "chain kill-leaving" in there

    def prepare() -> str:
        mesh.join(host)
        host.run("nmk", "set", "exit-node=other", "kill-switch=on")
        if not options:
            mesh.admin("node", "delete", "-n", "home", "anna", "--yes")
            host.run("nmk", "checkin", check=False)
        return mesh.token("--uses", "1")

    def check(token: str) -> None:
        assert_shut()
        before = state(host)
        host.run("nmk", "checkin", check=False)
        assert_shut()
        begun = before["successor"]
        if begun or before["phase"] == "deleted":
            host.run("nmk", "join", "-", *options, input=token)
        assert state(host)["identity"] == (begun or state(host))["identity"]
        assert_shut()
        assert len(mesh.nodes()) <= (3 if options else 2)
        host.run("nmk", "checkin")
        assert "[#]" not in host.run("nmk", "checkin", "--verbose").stderr
        host.run("nmk", "leave")
        for name in mesh.nodes().keys() - {"other"}:  # the old one, of which nobody was told
            assert options
            mesh.admin("node", "delete", "-n", "home", name, "--yes")
        assert_no_trace(host)

    subject = Subject(host, ("join", "-", *options), prepare, check)
    stopped(subject.sweep(full=full))
    mesh.admin("gateway", "remove", "-n", "home", "other", "exit", "--yes")


def test_check_in_with_changes(mesh: Mesh, host: Host, full: bool, stopped: Stopped) -> None:
    mesh.join(host)
    other = mesh.lab.hosts["other"]
    identity, node = state(host)["identity"], mesh.nodes()["anna"]["id"]
    ports = count(52000)
    port = 0

    def prepare() -> str:
        nonlocal port
        port = next(ports)
        for machine in (other, host):
            machine.write("/etc/nmk/home.toml", f"listen-port = {port}\n")
        other.run("nmk", "checkin")
        return ""

    def check(_: str) -> None:
        host.run("nmk", "checkin")
        assert host.run("wg", "show", "nmk-home", "listen-port").stdout == f"{port}\n"
        assert list(live_peers(host, "endpoints").values()) == [f"{other.address}:{port}"]
        mine = mesh.nodes()["anna"]
        assert (mine["listen_port"], mine["id"]) == (port, node)
        assert state(host)["identity"] == identity
        assert_steady(mesh, host)

    stopped(Subject(host, ("checkin",), prepare, check).sweep(full=full))
    host.run("nmk", "leave")


def test_up(mesh: Mesh, host: Host, full: bool, stopped: Stopped) -> None:
    mesh.join(host)

    def prepare() -> str:
        host.run("nmk", "down")
        return ""

    def check(_: str) -> None:
        host.run("nmk", "up")
        assert_steady(mesh, host)

    stopped(Subject(host, ("up",), prepare, check).sweep(full=full))
    host.run("nmk", "leave")


def test_leave(mesh: Mesh, host: Host, full: bool, stopped: Stopped) -> None:
    def prepare() -> str:
        mesh.join(host)
        return ""

    def check(_: str) -> None:
        again = host.run("nmk", "leave", check=False)
        assert again.returncode == 0 or "this machine is in no network" in again.stderr
        assert mesh.nodes().keys() == {"other"}
        assert_no_trace(host)

    stopped(Subject(host, ("leave",), prepare, check).sweep(full=full))
