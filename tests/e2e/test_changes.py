"""What an admin changes arrives at the next check-in, on the interface that is there."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from tests.lab import Host
from tests.mesh import (
    INTERFACE,
    Failure,
    Mesh,
    failure,
    has_interface,
    live_addresses,
    live_peers,
    reaches,
)

DELETED = "this machine's node in home was deleted on the controller"


@pytest.fixture(scope="module")
def anna(mesh: Mesh) -> Host:
    [anna] = mesh.members("anna")
    return anna


@pytest.fixture(scope="module")
def bert(mesh: Mesh, anna: Host) -> Host:
    """In another subnet than anna, whose LAN would win over all other ways to reach him."""
    bert = mesh.join(mesh.machine("bert", address="198.51.100.7"))
    anna.run("nmk", "checkin")
    reaches(anna, mesh.address("bert"))
    return bert


def link(host: Host) -> Any:
    [shown] = json.loads(host.run("ip", "-j", "link", "show", "dev", INTERFACE).stdout)
    return shown


@contextmanager
def still_the_same_tunnel(host: Host) -> Iterator[None]:
    """The interface was not made anew, and no peer lost its session."""
    index, handshakes = link(host)["ifindex"], live_peers(host, "latest-handshakes")
    yield
    assert link(host)["ifindex"] == index
    after = live_peers(host, "latest-handshakes")
    assert handshakes
    for key, time in handshakes.items():
        assert int(after[key]) >= int(time) > 0


def peer_names(host: Host) -> list[str]:
    return host.run("nmk", "status", "-o", "name").stdout.split()


# Settings of the network


def test_mtu(mesh: Mesh, anna: Host, bert: Host) -> None:
    mesh.admin("network", "set", "home", "mtu=1300")
    with still_the_same_tunnel(anna):
        anna.run("nmk", "checkin")
    assert link(anna)["mtu"] == 1300
    assert link(bert)["mtu"] == 1420  # has not asked yet
    bert.run("nmk", "checkin")
    assert link(bert)["mtu"] == 1300


@pytest.mark.usefixtures("bert")
@pytest.mark.parametrize(("keepalive", "shown"), [("17", "17"), ("0", "off")])
def test_keepalive(mesh: Mesh, anna: Host, keepalive: str, shown: str) -> None:
    mesh.admin("network", "set", "home", f"keepalive={keepalive}")
    with still_the_same_tunnel(anna):
        anna.run("nmk", "checkin")
    assert list(live_peers(anna, "persistent-keepalive").values()) == [shown]


@pytest.mark.usefixtures("bert")
def test_interval(mesh: Mesh, anna: Host) -> None:
    mesh.admin("network", "set", "home", "interval=300")
    with still_the_same_tunnel(anna):
        anna.run("nmk", "checkin")  # learns it
        anna.run("nmk", "checkin")  # says so
    assert mesh.nodes()["anna"]["interval"] == 300


@pytest.mark.usefixtures("bert")
def test_the_port_of_those_who_are_in_stays(mesh: Mesh, anna: Host) -> None:
    mesh.admin("network", "set", "home", "listen-port=40000")
    with still_the_same_tunnel(anna):
        anna.run("nmk", "checkin")
    assert anna.run("wg", "show", INTERFACE, "listen-port").stdout == "51821\n"


# A node


def test_name(mesh: Mesh, anna: Host, bert: Host) -> None:
    mesh.admin("node", "set", "bert", "name=robert")
    with still_the_same_tunnel(anna), still_the_same_tunnel(bert):
        anna.run("nmk", "checkin")
        bert.run("nmk", "checkin")
    assert peer_names(anna) == ["robert"]
    assert "robert" in bert.run("nmk", "status").stdout
    mesh.admin("node", "set", "robert", "name=bert")


def test_address(mesh: Mesh, anna: Host, bert: Host) -> None:
    before = mesh.address("bert")
    after = before.rpartition(".")[0] + ".200"
    mesh.admin("node", "set", "bert", f"address={after}")
    with still_the_same_tunnel(anna), still_the_same_tunnel(bert):
        bert.run("nmk", "checkin")
        anna.run("nmk", "checkin")
    assert live_addresses(bert) == mesh.nodes()["bert"]["addresses"]
    assert after in live_addresses(bert)
    assert before not in live_addresses(bert)
    reaches(anna, after)
    [ranges] = live_peers(anna, "allowed-ips").values()
    assert ranges.split() == [f"{after}/32", f"{mesh.address('bert', 6)}/128"]


def test_endpoint(mesh: Mesh, anna: Host, bert: Host) -> None:
    reaches(anna, mesh.address("bert"))
    [found] = live_peers(anna, "endpoints").values()
    mesh.internet.cut(anna, bert)  # WireGuard would follow bert at once to where he really is
    mesh.admin("node", "set", "bert", "endpoint=198.51.100.99:4000")
    with still_the_same_tunnel(anna):
        anna.run("nmk", "checkin")
    assert list(live_peers(anna, "endpoints").values()) == ["198.51.100.99:4000"]
    mesh.admin("node", "set", "bert", "endpoint=")
    with still_the_same_tunnel(anna):
        anna.run("nmk", "checkin")
    assert list(live_peers(anna, "endpoints").values()) == [found]
    mesh.internet.heal()
    reaches(anna, mesh.address("bert"))


def test_a_dry_run_shows_what_would_change(mesh: Mesh, anna: Host, bert: Host) -> None:
    bert.run("nmk", "checkin")
    anna.run("nmk", "checkin")
    before = link(anna)["mtu"]
    mesh.admin("network", "set", "home", "mtu=1290")
    shown = anna.run("nmk", "checkin", "--dry-run").stdout
    assert shown == f"[#] ip -force -batch -\n    link set dev {INTERFACE} mtu 1290 up\n"
    assert link(anna)["mtu"] == before


# The end of a node


def test_a_deleted_node(mesh: Mesh, anna: Host, bert: Host) -> None:
    [cleo] = mesh.members("cleo")
    anna.run("nmk", "checkin")
    assert peer_names(anna) == ["bert", "cleo"]
    reaches(cleo, mesh.address("anna"))

    mesh.admin("node", "delete", "cleo", "--yes")
    with still_the_same_tunnel(bert):
        bert.run("nmk", "checkin")
    anna.run("nmk", "checkin")
    assert peer_names(anna) == ["bert"]
    assert len(live_peers(anna, "endpoints")) == 1

    first = failure(cleo, "checkin")
    assert first.exit_code == 1
    assert "deleted" in first.message
    assert first.hint == "nmk join -, with a new token; or nmk leave"
    assert not has_interface(cleo)
    again = "nmk join -, with a new token; or nmk leave -n home"
    assert failure(cleo, "checkin") == Failure(1, f"home: {DELETED}", again)
    assert failure(cleo, "up")[:2] == (1, DELETED)
    assert "deleted on the controller; nmk leave" in cleo.run("nmk", "status").stdout

    mesh.join(cleo)
    anna.run("nmk", "checkin")
    reaches(cleo, mesh.address("anna"))


def test_a_deleted_network(mesh: Mesh, anna: Host) -> None:
    mesh.admin("network", "create", "lab")
    token = mesh.admin("key", "create", "-n", "lab", "--uses", "2")
    anna.run("nmk", "join", "-", input=token)
    late = mesh.machine("dora")
    mesh.admin("network", "delete", "lab", "--yes")

    end = failure(anna, "checkin", "-n", "lab")
    assert (end.exit_code, "deleted" in end.message) == (1, True)
    assert not has_interface(anna, "nmk-lab")
    assert has_interface(anna)
    anna.run("nmk", "checkin", "-n", "home")
    assert failure(late, "join", "-", input=token)[:2] == (1, "the access key was revoked")
    anna.run("nmk", "leave", "-n", "lab")
