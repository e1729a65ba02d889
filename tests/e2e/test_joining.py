"""All the ways to join, and what the owner can ask for."""

from __future__ import annotations

import pytest

from tests.e2e.traces import traces
from tests.lab import Host
from tests.mesh import (
    INTERFACE,
    Mesh,
    failure,
    has_interface,
    install_cron,
    live_addresses,
    live_peers,
    reaches,
)


@pytest.fixture(scope="module")
def anna(mesh: Mesh) -> Host:
    [anna] = mesh.members("anna")
    return anna


@pytest.fixture(scope="module")
def machine(mesh: Mesh) -> Host:
    return mesh.machine("bert")


@pytest.fixture
def bert(machine: Host) -> Host:
    """A machine that is in no network, before the test and after it."""
    assert machine.run("nmk", "status", "-o", "json").stdout == "[]\n"
    return machine


def uses(mesh: Mesh) -> list[int]:
    return [key["uses"] for key in mesh.json("key", "list", "-n", "home")]


def leave(host: Host) -> None:
    host.run("nmk", "leave")


# The token


@pytest.mark.parametrize("way", ["argument", "stdin", "file", "environment"])
def test_where_the_token_may_be(mesh: Mesh, bert: Host, way: str) -> None:
    token = mesh.token()
    bert.write("/root/token", token + "\n", mode=0o600)
    match way:
        case "argument":
            bert.run("nmk", "join", token)
        case "stdin":
            bert.run("nmk", "join", "-", input=f"\n  {token}\n")
        case "file":
            bert.run("nmk", "join", "--token-file", "/root/token")
        case _:
            bert.run("nmk", "join", env={"NMK_JOIN_TOKEN": token})
    assert live_addresses(bert) == mesh.nodes()["bert"]["addresses"]
    leave(bert)


def test_joining_tells_what_it_does_and_what_comes_next(mesh: Mesh, bert: Host) -> None:
    install_cron(bert)
    told = bert.run("nmk", "join", "-", input=mesh.token())
    addresses = ", ".join(live_addresses(bert))
    assert told.stdout == ""
    assert told.stderr.splitlines()[:3] == [
        f"asking {mesh.urls[0]} to let this machine into home",
        f"home has it as bert ({addresses})",
        f"{INTERFACE} is up, peers: {len(mesh.nodes()) - 1}",
    ]
    [keeps] = [line.strip() for line in told.stderr.splitlines() if "nmk service" in line]
    bert.run("sh", "-c", keeps)
    *times, user, command = bert.read("/etc/cron.d/nmk").splitlines()[-1].split(None, 6)
    assert (times, user) == (["*"] * 5, "root")
    assert command.startswith("/usr/local/bin/nmk checkin")
    bert.run("sh", "-c", command.replace("--splay 30", ""))
    bert.run("rm", "/etc/cron.d/nmk")
    leave(bert)


# Wishes


def test_wishes(mesh: Mesh, anna: Host, bert: Host) -> None:
    wished = mesh.address("anna").rpartition(".")[0] + ".77"
    mesh.join(
        bert,
        *("--name", "web", "--address", wished, "--interface", "wg7"),
        *("--listen-port", "40007", "--endpoint", "198.51.100.77:7"),
    )
    node = mesh.nodes()["web"]
    assert (node["addresses"][0], node["listen_port"]) == (wished, 40007)
    assert node["endpoint"] == "198.51.100.77:7"
    assert live_addresses(bert, "wg7") == node["addresses"]
    assert bert.run("wg", "show", "wg7", "listen-port").stdout == "40007\n"
    assert not has_interface(bert)
    anna.run("nmk", "checkin")
    assert f"{wished}/32" in live_peers(anna, "allowed-ips")[node["public_key"]]
    leave(bert)
    assert not has_interface(bert, "wg7")


def test_an_ipv6_address_may_be_wished_for(mesh: Mesh, anna: Host, bert: Host) -> None:
    wished = mesh.address(anna.name, 6).rpartition(":")[0] + ":77"
    mesh.join(bert, "--address", wished)
    assert mesh.address("bert", 6) == wished
    leave(bert)


def test_a_taken_host_name_gets_a_number(mesh: Mesh, anna: Host, bert: Host) -> None:
    before = set(mesh.nodes())
    assert anna.name in before
    bert.run("hostname", "Anna.example.org")
    mesh.join(bert)
    assert set(mesh.nodes()) - before == {"anna-2"}
    leave(bert)
    bert.run("hostname", "bert")


def test_a_long_network_name_makes_a_short_interface(mesh: Mesh, bert: Host) -> None:
    name = "a-name-longer-than-any-interface"
    mesh.admin("network", "create", name)
    bert.run("nmk", "join", "-", input=mesh.admin("key", "create", "-n", name))
    [interface] = [i for i in bert.run("ls", "/sys/class/net").stdout.split() if i[:3] == "nmk"]
    assert len(interface) == 15
    leave(bert)
    mesh.admin("network", "delete", name, "--yes")


def test_a_taken_port_is_passed_over(mesh: Mesh, bert: Host) -> None:
    with bert.socket() as other:
        other.bind(("", 51821))
        mesh.join(bert)
    assert bert.run("wg", "show", INTERFACE, "listen-port").stdout == "51822\n"
    assert mesh.nodes()["bert"]["listen_port"] == 51822
    leave(bert)


# Again and elsewhere


def test_a_dry_run_changes_nothing(mesh: Mesh, bert: Host) -> None:
    token = mesh.token()
    before, used, nodes = traces(bert, program=True), uses(mesh), mesh.nodes()
    shown = bert.run("nmk", "join", "-", "--dry-run", input=token)
    assert shown.stdout.splitlines()[-3:] == [
        f"[#] wg syncconf {INTERFACE} /dev/stdin < (stdin)",
        "[#] ip -force -batch -",
        f"    link set dev {INTERFACE} mtu 1420 up",
    ]
    assert traces(bert, program=True) == before
    assert (uses(mesh), list(mesh.nodes())) == (used, list(nodes))


def test_joining_twice_is_joining_once(mesh: Mesh, bert: Host) -> None:
    token = mesh.token("--uses", "2")
    mesh.join(bert, token=token)
    node, used = mesh.nodes()["bert"], uses(mesh)
    index = bert.read(f"/sys/class/net/{INTERFACE}/ifindex")
    mesh.join(bert, token=token)
    assert mesh.nodes()["bert"]["id"] == node["id"]
    assert mesh.nodes()["bert"]["addresses"] == node["addresses"]
    assert uses(mesh) == used
    assert bert.read(f"/sys/class/net/{INTERFACE}/ifindex") == index
    leave(bert)


def test_a_second_network(mesh: Mesh, anna: Host, bert: Host) -> None:
    mesh.admin("network", "create", "lab")
    token = mesh.admin("key", "create", "-n", "lab", "--uses", "2")
    mesh.join(bert)
    for host in (anna, bert):
        host.run("nmk", "join", "-", input=token)
    for host in (anna, bert):
        host.run("nmk", "checkin")
    ports = {bert.run("wg", "show", f"nmk-{net}", "listen-port").stdout for net in ("home", "lab")}
    assert ports == {"51821\n", "51822\n"}
    for network in ("home", "lab"):
        for address in live_addresses(anna, f"nmk-{network}"):
            reaches(bert, address)
    for host in (anna, bert):
        host.run("nmk", "leave", "-n", "lab")
    leave(bert)


def test_another_controller_with_a_network_of_that_name(mesh: Mesh, bert: Host) -> None:
    mesh.join(bert)
    other = mesh.machine("other")
    server = other.start("nmk", "server")
    other.run("nmk", "server", "wait")
    other.run("nmk", "network", "create", "home")
    refusal = failure(bert, "join", "-", input=other.run("nmk", "key", "create").stdout)
    of = f"of another controller, {mesh.urls[0]}"
    assert refusal[:2] == (1, f"this machine is in a network named 'home' {of}")
    server.terminate()
    leave(bert)


def test_behind_a_router(mesh: Mesh, anna: Host) -> None:
    lan = mesh.lab.lan("cabin", "192.168.7.0/24", nat="port-restricted", behind=mesh.internet)
    laptop = mesh.join(mesh.machine("laptop", lan))
    assert mesh.nodes()["laptop"]["observed"] == [lan.router.address if lan.router else ""]
    anna.run("nmk", "checkin")
    for address in live_addresses(anna):
        reaches(laptop, address)
    for address in live_addresses(laptop):
        reaches(anna, address)
