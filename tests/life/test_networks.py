"""One machine in several networks, of controllers that know nothing of each other."""

from __future__ import annotations

import json
from typing import Any

import pytest

from nmk.agent.heads import interface_for
from tests.lab import Host, Lab
from tests.mesh import Failure, Mesh, failure, live_addresses, live_peers, reaches

RANGE = "10.20.0.0/16"


class Office(Mesh):
    """Another controller beside the first one; it calls its network `home`, too."""

    def __init__(self, beside: Mesh, cidr: str) -> None:
        self.lab = beside.lab
        self.internet = beside.internet
        self.controller = beside.machine("office")
        self.start()
        self.admin("network", "create", "home", cidr)


@pytest.fixture(scope="module")
def mesh(module_lab: Lab) -> Mesh:
    return Mesh(module_lab, RANGE)


@pytest.fixture(scope="module")
def office(mesh: Mesh) -> Mesh:
    return Office(mesh, "10.30.0.0/16")


@pytest.fixture(scope="module")
def web(mesh: Mesh, office: Mesh) -> Host:
    """In both networks; one of them goes by another name here."""
    web = mesh.join(mesh.machine("web"))
    return office.join(web, "--as", "office")


def status(host: Host, network: str) -> Any:
    [found] = json.loads(host.run("nmk", "status", "-n", network, "-o", "json").stdout)
    return found


def leaves_by(host: Host, address: str) -> str:
    """The interface that packets to an address go out of."""
    [route] = json.loads(host.run("ip", "-j", "route", "get", address).stdout)
    interface: str = route["dev"]
    return interface


# Two controllers, one name


def test_a_name_that_is_taken_needs_another_one_here(mesh: Mesh, office: Mesh) -> None:
    host = mesh.join(mesh.machine("torn"))
    refused = failure(host, "join", "-", input=office.token())
    assert refused.exit_code == 1
    assert refused.message.startswith("this machine is in a network named 'home' of another")
    assert "--as" in refused.hint
    office.join(host, "--as", "office")
    office.join(host)  # the controller's key tells which of the two is meant
    refused = failure(host, "join", "-", "--as", "work", input=office.token())
    assert "calls it 'office'" in refused.message


def test_an_interface_is_one_networks_though_it_is_down(mesh: Mesh, office: Mesh) -> None:
    """A long name is shortened, so that another network's can be the same."""
    host = mesh.join(mesh.machine("twins"), "--as", "office-berlin")
    name = interface_for("office-berlin")
    there = name.removeprefix("nmk-")
    assert interface_for(there) == name
    host.run("nmk", "down", "-n", "office-berlin")
    refused = failure(host, "join", "-", "--as", there, input=office.token())
    assert refused.exit_code == 1
    assert refused.message == f"the interface {name!r} is that of office-berlin on this machine"
    assert "--interface" in refused.hint
    office.join(host, "--as", there, "--interface", "mesh0")
    host.run("nmk", "up", "-n", "office-berlin")
    assert live_addresses(host, name)
    assert live_addresses(host, "mesh0")


def test_each_is_a_node_of_its_own(mesh: Mesh, office: Mesh, web: Host) -> None:
    here, there = mesh.nodes()["web"], office.nodes()["web"]
    assert live_addresses(web, "nmk-home") == here["addresses"]
    assert live_addresses(web, "nmk-office") == there["addresses"]
    assert here["id"] != there["id"]
    assert here["listen_port"] != there["listen_port"]
    states = [json.loads(web.read(f"/var/lib/nmk/{n}.json")) for n in ("home", "office")]
    for secret in ("identity", "private_key"):
        assert states[0][secret] != states[1][secret]
    shown = web.run("nmk", "status").stdout
    assert "network     home\n" in shown
    assert "network     office, there home\n" in shown


def test_traffic_passes_in_both(mesh: Mesh, office: Mesh, web: Host) -> None:
    mesh.join(mesh.machine("db"))
    office.join(office.machine("desk"))
    web.run("nmk", "checkin")
    reaches(web, mesh.address("db"))
    reaches(web, office.address("desk"))


def test_without_n_a_person_must_choose_where_it_matters(web: Host) -> None:
    for command in ("down", "up", "leave", "showconf"):
        assert failure(web, command).message == "this machine is in 2 networks: home, office"
    before = live_addresses(web, "nmk-home")
    web.run("nmk", "down", "-n", "office")
    assert live_addresses(web, "nmk-home") == before
    web.run("nmk", "checkin")
    assert status(web, "office")["state"] == "down"
    web.run("nmk", "up", "-n", "office")
    assert status(web, "office")["state"] == "up"


# One that fails does not stop the others


def test_one_controller_that_nobody_reaches(mesh: Mesh, office: Mesh, web: Host) -> None:
    """Its packets are dropped: a connection hangs until its time is over."""
    before = live_peers(web, "endpoints", "nmk-home")
    office.join(office.machine("late"))
    mesh.internet.cut(web, mesh.controller)
    done = web.run("nmk", "checkin", check=False)
    mesh.internet.heal()
    assert done.returncode == 75
    assert "nmk: home: cannot reach" in done.stderr
    assert "late" in web.run("nmk", "status", "-n", "office", "-o", "name").stdout
    assert live_peers(web, "endpoints", "nmk-home") == before


def test_one_state_file_that_is_damaged(office: Mesh, web: Host) -> None:
    whole = web.read("/var/lib/nmk/home.json")
    addresses = live_addresses(web, "nmk-home")
    web.write("/var/lib/nmk/home.json", whole[:-9], mode=0o600)
    office.join(office.machine("later"))
    done = web.run("nmk", "checkin", check=False)
    assert done.returncode == 1
    assert "home.json is damaged" in done.stderr
    assert "later" in web.run("nmk", "status", "-n", "office", "-o", "name").stdout
    assert live_addresses(web, "nmk-home") == addresses
    web.write("/var/lib/nmk/home.json", whole, mode=0o600)
    web.run("nmk", "checkin")


# Ranges that overlap


def test_of_two_networks_that_overlap_the_earlier_one_keeps_its_addresses(
    mesh: Mesh, office: Mesh
) -> None:
    """The later one comes first in the alphabet, and has a node for an address of the other."""
    office.admin("network", "create", "alpha", RANGE)
    token = office.admin("key", "create", "-n", "alpha", "--unlimited").strip()
    near = mesh.join(mesh.machine("near"))
    host = mesh.join(mesh.machine("between"))
    address = mesh.address("near")
    office.join(mesh.machine("thief"), "--address", address, token=token)
    refusal = failure(host, "join", "-q", "-", input=token)
    assert refusal == Failure(
        1,
        f"of the ranges of alpha, {RANGE} is refused, as network home has {RANGE}",
        f"where that is wanted: nmk join - --range {RANGE}; else: nmk leave -n alpha",
    )
    assert host.run("ip", "link", "show", "nmk-alpha", check=False).returncode == 1
    refused = status(host, "alpha")
    assert refused["problem"] == f"the join failed: {refusal.message}"
    assert refused["next"] == refusal.hint
    done = host.run("nmk", "join", "-", "--range", RANGE, input=token)
    assert f"warning: left out, as network home has {RANGE}: " in done.stderr
    near.run("nmk", "checkin")
    for _ in range(2):
        assert leaves_by(host, address) == "nmk-home"
        reaches(host, address)
        assert live_addresses(host, "nmk-alpha") == []
        assert live_peers(host, "endpoints", "nmk-alpha") == {}
        left = {"node": "thief", "address": address, "range": RANGE, "owner": "network home"}
        assert left in status(host, "alpha")["left_out"]
        assert status(host, "home")["left_out"] == []
        host.reboot()
        host.run("nmk", "checkin")

    host.run("nmk", "leave", "-n", "home")
    host.run("nmk", "checkin")
    assert status(host, "alpha")["left_out"] == []
    assert live_addresses(host, "nmk-alpha") == status(host, "alpha")["addresses"]
    assert leaves_by(host, address) == "nmk-alpha"
    near.run("nmk", "leave")


def test_a_public_range_comes_only_where_the_owner_names_it(mesh: Mesh, office: Mesh) -> None:
    """A token of one use: a join that was refused is the same node when it is repeated."""
    host = mesh.machine("careful")
    for name, cidr, reason in (
        ("bank", "198.51.100.0/24", "it is public address space"),
        ("all", "203.0.0.0/8", f"the controller at {office.urls[0]}"),
    ):
        office.admin("network", "create", name, cidr)
        token = office.admin("key", "create", "-n", name).strip()
        refusal = failure(host, "join", "-q", "-", input=token)
        assert reason in refusal.message
        assert leaves_by(host, "198.51.100.7") == "eth0"
    host.run("nmk", "leave", "-n", "all")
    assert office.admin("node", "list", "-n", "all", "-o", "name") == ""
    token = office.admin("key", "create", "-n", "bank").strip()
    host.run("nmk", "join", "-", input=token, env={"NMK_RANGE": "198.51.100.0/24"})
    assert leaves_by(host, "198.51.100.7") == "nmk-bank"
    [node] = json.loads(office.admin("node", "list", "-n", "bank", "-o", "json"))
    assert node["addresses"] == status(host, "bank")["addresses"]

    host.run("ip", "address", "add", "203.0.0.5/8", "dev", "nmk-bank")
    assert leaves_by(host, "203.7.7.7") == "nmk-bank"
    host.run("nmk", "checkin")
    assert leaves_by(host, "203.7.7.7") == "eth0"
    host.run("nmk", "leave", "-n", "bank")


def test_a_lan_inside_the_network_stays_reachable(mesh: Mesh) -> None:
    den = mesh.lab.lan("den", "10.20.200.0/24", nat="port-restricted", behind=mesh.internet)
    nas = mesh.lab.host("nas", on=den)
    far = mesh.join(mesh.machine("far"), "--address", "10.20.7.7")
    mesh.join(mesh.machine("twin"), "--address", nas.address)
    box = mesh.machine("box", on=den)
    refusal = failure(box, "join", "-q", "-", "--address", "10.20.5.1", input=mesh.token())
    assert "it holds 10.20.200.0/24 of eth0" in refusal.message
    mesh.join(box, "--address", "10.20.5.1", "--range", RANGE)
    far.run("nmk", "checkin")

    reaches(box, nas.address)
    reaches(box, "10.20.7.7")
    reaches(far, "10.20.5.1")
    assert leaves_by(box, nas.address) == "eth0"
    assert leaves_by(box, "10.20.7.7") == "nmk-home"
    nas.unplug(den)
    assert box.run("ping", "-c1", "-W1", nas.address, check=False).returncode == 1
    nas.plug(den)

    [left] = status(box, "home")["left_out"]
    assert left == {
        "node": "twin",
        "address": nas.address,
        "range": "10.20.200.0/24",
        "owner": "eth0",
    }
    shown = box.run("nmk", "status").stdout
    assert f"left out, as eth0 has 10.20.200.0/24: {nas.address} (twin)\n" in shown


def test_an_address_that_is_the_routers_does_not_cut_the_machine_off(mesh: Mesh) -> None:
    den = mesh.lab.lan("cellar", "10.20.201.0/24", nat="port-restricted", behind=mesh.internet)
    host = mesh.machine("mole", on=den)
    mesh.join(host, "--address", "10.20.201.1", "--range", RANGE)
    host.run("nmk", "checkin")
    assert live_addresses(host) == []
    [left] = status(host, "home")["left_out"]
    assert (left["node"], left["address"]) == ("mole", "10.20.201.1")


def test_addresses_come_back_when_the_lan_is_another(mesh: Mesh) -> None:
    """A laptop in a LAN that has all of the network's range, and then in one that does not."""
    clash = mesh.lab.lan("clash", "10.0.0.0/8", nat="port-restricted", behind=mesh.internet)
    laptop, away = mesh.members("laptop", "away")
    own = live_addresses(laptop)
    laptop.attach(clash)
    laptop.run("nmk", "checkin")
    assert live_addresses(laptop) == []
    assert live_peers(laptop, "endpoints") == {}
    laptop.run("ip", "address", "flush", "dev", "eth1")
    laptop.run("nmk", "checkin")
    assert live_addresses(laptop) == own
    away.run("nmk", "checkin")
    reaches(laptop, mesh.address(away.name))
