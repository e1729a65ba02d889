"""Down, up, leave: what stays on the machine, and what the others see of it."""

from __future__ import annotations

import pytest

from tests.e2e.traces import traces
from tests.lab import Host
from tests.mesh import Mesh, failure, has_interface, live_peers, reaches

STATE = "/var/lib/nmk/home.json"


@pytest.fixture(scope="module")
def anna(mesh: Mesh) -> Host:
    [anna] = mesh.members("anna")
    return anna


def test_no_trace_after_leave(mesh: Mesh, anna: Host) -> None:
    bert = mesh.machine("bert")
    before = traces(bert)
    mesh.join(bert)
    during = traces(bert)
    assert {"interface nmk-home", f"file {STATE}", "run /run/wireguard/nmk-home.sock"} < during
    assert [line for line in during if "wireguard-go nmk-home" in line]
    anna.run("nmk", "checkin")
    reaches(anna, mesh.address("bert"))

    bert.run("nmk", "leave")
    assert traces(bert) - before <= {"run /run/wireguard"}  # wireguard-go's, empty
    assert before <= traces(bert)
    assert "bert" not in mesh.nodes()
    anna.run("nmk", "checkin")
    assert anna.run("nmk", "status", "-o", "name").stdout == ""
    assert failure(bert, "checkin")[:2] == (1, "this machine is in no network")


def test_leaving_one_of_two_networks(mesh: Mesh, anna: Host) -> None:
    mesh.admin("network", "create", "lab")
    anna.run("nmk", "join", "-", input=mesh.admin("key", "create", "-n", "lab"))
    assert failure(anna, "leave")[:2] == (2, "this machine is in 2 networks: home, lab")
    anna.run("nmk", "leave", "-n", "lab")
    assert not has_interface(anna, "nmk-lab")
    assert has_interface(anna)
    anna.run("nmk", "checkin")


def test_leaving_without_the_controller_wants_force(mesh: Mesh) -> None:
    cleo = mesh.machine("cleo")
    before = traces(cleo)
    mesh.join(cleo)
    with mesh.stopped():
        refusal = failure(cleo, "leave")
        assert refusal == (
            75,
            "; ".join(f"cannot reach {url}: Connection refused" for url in mesh.urls),
            "later again, or without the controller: nmk leave -n home --force",
        )
        assert has_interface(cleo)
        told = cleo.run("nmk", "leave", "--force").stderr
    assert "on the controller: nmk node delete -n home cleo" in told
    assert traces(cleo) - before <= {"run /run/wireguard"}
    assert "cleo" in mesh.nodes()


def test_down_lasts_until_up(mesh: Mesh, anna: Host) -> None:
    [dora] = mesh.members("dora")
    dora.run("nmk", "down")
    assert not has_interface(dora)
    assert "home: nmk-home is down" in dora.run("nmk", "checkin").stderr
    assert not has_interface(dora)
    assert "down until: nmk up" in dora.run("nmk", "status").stdout
    dora.reboot()
    dora.run("nmk", "checkin")
    assert not has_interface(dora)
    dora.run("nmk", "up")
    anna.run("nmk", "checkin")
    reaches(dora, mesh.address("anna"))


def test_the_shown_file_needs_no_nmk(mesh: Mesh, anna: Host) -> None:
    [emil] = mesh.members("emil")
    anna.run("nmk", "checkin")
    peers = live_peers(emil, "allowed-ips")
    file = emil.run("nmk", "showconf").stdout
    emil.run("nmk", "down")

    phone = mesh.lab.host("phone", on=mesh.internet)
    phone.write("/etc/wireguard/mesh.conf", file, mode=0o600)
    phone.run("wg-quick", "up", "mesh")
    for family in (4, 6):
        reaches(phone, mesh.address("anna", family))
        reaches(anna, mesh.address("emil", family))
    assert live_peers(phone, "allowed-ips", "mesh") == peers
    phone.run("wg-quick", "down", "mesh")

    # On the machine itself too, beside nmk that is down: it has nmk's key, and is not nmk's.
    emil.write("/root/mesh.conf", file, mode=0o600)
    emil.run("wg-quick", "up", "/root/mesh.conf")
    emil.run("nmk", "checkin")
    assert not has_interface(emil)
    assert live_peers(emil, "allowed-ips", "mesh") == peers
    emil.run("wg-quick", "down", "/root/mesh.conf")
