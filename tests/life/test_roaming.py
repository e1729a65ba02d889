"""Machines move, routers get other addresses, ports are taken; the tunnel stays what it is."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.lab import Host, Lab
from tests.mesh import INTERFACE, Mesh, failure, live_peers, reaches

HOLD = (
    "import socket, time; s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); "
    "s.bind(('0.0.0.0', {})); print('bound', flush=True); time.sleep(600)"
)


@pytest.fixture(scope="module")
def mesh(module_lab: Lab) -> Mesh:
    return Mesh(module_lab, "10.20.0.0/16")


@pytest.fixture(scope="module")
def web(mesh: Mesh) -> Host:
    """A member that stays where it is, in another subnet than all others."""
    return mesh.join(mesh.machine("web", address="192.0.2.7"))


def take_port(host: Host, port: int) -> None:
    """Somebody else's program gets the port."""
    host.start(sys.executable, "-c", HOLD.format(port)).wait_for("bound")


def listen_port(host: Host) -> int:
    return int(host.run("wg", "show", INTERFACE, "listen-port").stdout)


def index_of(host: Host) -> int:
    [link] = json.loads(host.run("ip", "-j", "link", "show", "dev", INTERFACE).stdout)
    number: int = link["ifindex"]
    return number


@contextmanager
def same_interfaces(*hosts: Host) -> Iterator[None]:
    """None of the hosts makes its interface anew."""
    before = [index_of(host) for host in hosts]
    yield
    assert [index_of(host) for host in hosts] == before


def endpoint(host: Host, peer: Host) -> str:
    """Where a host sends what is for a peer."""
    key = peer.run("wg", "show", INTERFACE, "public-key").stdout.strip()
    return live_peers(host, "endpoints")[key]


# The port


def test_a_port_that_is_taken_at_boot_is_replaced_and_peers_follow(mesh: Mesh, web: Host) -> None:
    host = mesh.join(mesh.machine("db"))
    web.run("nmk", "checkin")
    before = listen_port(host)
    assert endpoint(web, host) == f"{host.address}:{before}"
    host.reboot()
    take_port(host, before)
    host.run("nmk", "checkin")
    after = listen_port(host)
    assert after != before
    assert mesh.nodes()["db"]["listen_port"] == after
    with same_interfaces(web, host):
        web.run("nmk", "checkin")
        assert endpoint(web, host) == f"{host.address}:{after}"
        reaches(web, mesh.address("db"))
        assert "[#]" not in host.run("nmk", "checkin", "-v").stderr


def test_a_port_that_is_free_is_kept(mesh: Mesh) -> None:
    host = mesh.join(mesh.machine("keeper"))
    before = listen_port(host)
    host.run("nmk", "down")
    host.run("nmk", "up")
    assert listen_port(host) == before
    host.reboot()
    host.run("nmk", "up")
    assert listen_port(host) == before


def test_killed_before_the_new_port_was_written_down(mesh: Mesh) -> None:
    host = mesh.join(mesh.machine("cut"))
    state = json.loads(host.read("/var/lib/nmk/home.json"))
    taken = state["listen_port"] + 7
    take_port(host, taken)
    host.write("/var/lib/nmk/home.json", json.dumps(state | {"listen_port": taken}), mode=0o600)
    with same_interfaces(host):
        host.run("nmk", "checkin")
        assert listen_port(host) == state["listen_port"]
    host.run("nmk", "checkin")
    assert mesh.nodes()["cut"]["listen_port"] == state["listen_port"]


def test_a_port_that_its_owner_asked_for_is_never_replaced(mesh: Mesh) -> None:
    host = mesh.join(mesh.machine("fixed"), "--listen-port", "51900")
    host.reboot()
    take_port(host, 51900)
    for command in ("checkin", "up"):
        refused = failure(host, command)
        assert refused.message.endswith("UDP port 51900 is in use")
    host.reboot()
    host.run("nmk", "checkin")
    assert listen_port(host) == 51900


def test_another_network_of_the_machine_keeps_its_port(mesh: Mesh) -> None:
    """Even while it is down: its owner may have asked for it."""
    host = mesh.join(mesh.machine("twofold"))
    mesh.admin("network", "create", "second", "10.21.0.0/16")
    token = mesh.admin("key", "create", "-n", "second").strip()
    host.run("nmk", "join", "-", "--listen-port", "51822", input=token)
    host.run("nmk", "down", "-n", "second")
    host.reboot()
    take_port(host, 51821)
    host.run("nmk", "checkin")
    assert listen_port(host) == 51823
    host.run("nmk", "up", "-n", "second")


# The address


def test_the_routers_new_address_counts_from_the_second_check_in(mesh: Mesh, web: Host) -> None:
    home = mesh.lab.lan("home", "192.168.1.0/24", nat="port-restricted", behind=mesh.internet)
    host = mesh.join(mesh.machine("nas", on=home))
    web.run("nmk", "checkin")
    reaches(host, mesh.address("web"))
    assert home.router
    old = home.router.address
    assert mesh.nodes()["nas"]["observed"][0] == old
    with same_interfaces(web, host):
        home.router.readdress(mesh.internet, "198.51.100.50")
        host.run("nmk", "checkin")
        assert mesh.nodes()["nas"]["observed"][0] == old
        host.run("nmk", "checkin")
        assert mesh.nodes()["nas"]["observed"][0] == "198.51.100.50"
        web.run("nmk", "checkin")
        reaches(host, mesh.address("web"))
        reaches(web, mesh.address("nas"))
        assert endpoint(web, host).startswith("198.51.100.50:")


def test_a_laptop_goes_from_one_lan_to_another(mesh: Mesh, web: Host) -> None:
    cafe = mesh.lab.lan("cafe", "192.168.7.0/24", nat="port-restricted", behind=mesh.internet)
    flat = mesh.lab.lan("flat", "192.168.8.0/24", nat="port-restricted", behind=mesh.internet)
    laptop = mesh.join(mesh.machine("laptop", on=cafe))
    desk = mesh.join(mesh.machine("desk", on=flat))
    for host in (laptop, web):
        host.run("nmk", "checkin")
    reaches(laptop, mesh.address("web"))
    with same_interfaces(laptop, desk, web):
        laptop.run("ip", "link", "set", "eth0", "down")
        laptop.attach(flat)
        for host in (laptop, laptop, desk, laptop, web):
            host.run("nmk", "checkin")
        reaches(laptop, mesh.address("desk"))
        assert endpoint(laptop, desk) == f"{desk.address}:51821"
        assert endpoint(desk, laptop) == f"{laptop.link(flat).address}:51821"
        reaches(laptop, mesh.address("web"))
        reaches(web, mesh.address("laptop"))
    assert "192.168.7" not in json.dumps(mesh.nodes()["laptop"])


def test_a_pinned_endpoint_stays_through_all_of_it(mesh: Mesh, web: Host) -> None:
    pinned = "198.51.100.99:40000"
    host = mesh.join(mesh.machine("pinned"), "--endpoint", pinned)
    web.run("nmk", "checkin")
    host.readdress(mesh.internet, "198.51.100.61")
    host.reboot()
    take_port(host, 51821)
    for _ in range(2):
        host.run("nmk", "checkin")
    assert mesh.nodes()["pinned"]["observed"][0] == "198.51.100.61"
    for command in ("checkin", "down", "up"):
        web.run("nmk", command)
    shown = json.loads(web.run("nmk", "status", "-o", "json").stdout)[0]["peers"]
    [peer] = [peer for peer in shown if peer["name"] == "pinned"]
    assert mesh.nodes()["pinned"]["endpoint"] == pinned
    assert pinned in web.run("nmk", "showconf").stdout
    assert peer["kind"] in {"static", "roamed"}  # WireGuard may have heard it meanwhile
