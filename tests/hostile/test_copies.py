"""Disks that go back in time, and disks that are copied."""

from __future__ import annotations

import json

import pytest

from tests.lab import Host, Lab
from tests.mesh import Mesh, reaches

STATE = "/var/lib/nmk/home.json"


@pytest.fixture(scope="module")
def mesh(module_lab: Lab) -> Mesh:
    return Mesh(module_lab)


def states(mesh: Mesh) -> dict[str, str]:
    return {name: node["state"] for name, node in mesh.nodes().items()}


def test_a_disk_put_back_recovers_in_one_more_exchange(mesh: Mesh) -> None:
    web = mesh.join(mesh.machine("web"))
    old = web.read(STATE)
    for address in ("198.51.100.21", "198.51.100.22"):
        web.readdress(mesh.internet, address)
        web.run("nmk", "checkin")
    web.write(STATE, old, 0o600)
    web.readdress(mesh.internet, "198.51.100.23")
    web.run("nmk", "checkin")
    node = mesh.nodes()["web"]
    assert node["lan"][0] == "198.51.100.23/24"
    assert node["state"] == "healthy"
    assert json.loads(web.read(STATE))["seq"] > json.loads(old)["seq"]
    db = mesh.join(mesh.machine("db"))
    web.run("nmk", "checkin")
    reaches(db, node["addresses"][0])


def test_a_service_that_reads_another_boot_id_is_the_same_machine(mesh: Mesh) -> None:
    """As a unit in some containers does, beside its shell."""
    lone = mesh.join(mesh.machine("lone"))
    lone.write("/root/boot_id", "00000000-0000-4000-8000-000000000001\n")
    there = "/proc/sys/kernel/random/boot_id"
    inside = f"mount --bind /root/boot_id {there} && grep -q 0001 {there} && exec nmk checkin"
    for _ in range(2):
        lone.run("unshare", "--mount", "sh", "-c", inside)
        lone.run("nmk", "checkin")
    assert states(mesh)["lone"] == "healthy"
    assert lone.run("stat", "-c", "%a", "/run/nmk", "/run/nmk/instance").stdout == "700\n600\n"
    before = lone.read("/run/nmk/instance")
    lone.reboot()
    lone.run("nmk", "checkin")
    assert lone.read("/run/nmk/instance") != before


def test_a_copied_identity_is_named_with_its_cure(mesh: Mesh) -> None:
    first = mesh.join(mesh.machine("first"))
    copy = mesh.machine("copy")
    copy.run("mkdir", "-p", "/var/lib/nmk")
    copy.write(STATE, first.read(STATE), 0o600)

    def one_round() -> None:
        for host in (first, copy):
            host.run("nmk", "checkin")

    one_round()
    assert states(mesh)["first"] == "healthy"  # a machine that moved looks the same at first
    one_round()
    assert states(mesh)["first"] == "doubled"
    cure = mesh.nodes()["first"]["cure"]
    assert "--new-identity" in cure
    both = sorted((first.address, copy.address))
    assert mesh.nodes()["first"]["copies"] == both
    listed = mesh.controller.run("nmk", "node", "list").stderr
    assert f"first is doubled ({both[0]} and {both[1]}): two machines have this identity" in listed
    for host in (first, copy):
        host.run("nmk", "checkin")
        assert (
            f"copied      two machines have this identity: {both[0]}"
            in host.run("nmk", "status").stdout
        )
        doctor = host.run("nmk", "doctor", check=False).stdout
        assert "on the one that is the copy, and not on the other" in doctor

    copy.run("nmk", "join", "-", "--new-identity", input=mesh.token())
    for host in (first, copy):
        host.run("nmk", "checkin")
    addresses = {n: mesh.address(n) for n in ("first", "copy")}
    assert len(set(addresses.values())) == 2
    reaches(first, addresses["copy"])


def test_a_database_put_back_leaves_no_agent_wrong(mesh: Mesh) -> None:
    """What came after the backup is gone on the controller, and so it goes on the machines."""
    keeper = mesh.join(mesh.machine("keeper"))
    data = "/var/lib/nmk/server"
    mesh.stop()
    mesh.controller.run("cp", "-a", data, "/root/backup")
    mesh.start()
    late = mesh.join(mesh.machine("late"))
    keeper.run("nmk", "checkin")
    assert peers(keeper) >= {"late"}
    mesh.stop()
    mesh.controller.run("rm", "-r", data)
    mesh.controller.run("cp", "-a", "/root/backup", data)
    mesh.start()
    early = mesh.join(mesh.machine("early"))
    keeper.run("nmk", "checkin")
    assert peers(keeper) >= {"early"}
    assert "late" not in peers(keeper)
    reaches(keeper, mesh.address("early"))
    done = late.run("nmk", "checkin", check=False)
    assert done.returncode == 1
    assert "knows no such node" in done.stderr
    [here] = json.loads(late.run("nmk", "status", "-o", "json").stdout)
    assert here["check_in"]["failure"]["code"] == "node-unknown"
    assert "no such node" in late.run("nmk", "doctor", check=False).stdout
    [unknown] = mesh.json("network", "show", "home")["unknown_nodes"]
    assert unknown["address"] == late.address
    shown = mesh.controller.run("nmk", "network", "show", "home").stdout
    assert f"{unknown['id']} at {late.address}, last seen {unknown['last_seen']}\n" in shown
    listed = mesh.controller.run("nmk", "node", "list").stderr
    assert f"a machine at {late.address} checks in as node {unknown['id']}" in listed
    mesh.join(late)
    keeper.run("nmk", "checkin")
    assert peers(keeper) >= {"early", "late"}
    reaches(early, mesh.address("keeper"))


def peers(host: Host) -> set[str]:
    [network] = json.loads(host.run("nmk", "status", "-o", "json").stdout)
    return {peer["name"] for peer in network["peers"]}
