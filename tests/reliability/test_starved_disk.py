"""No room on a disk, or none to write on: clear errors, what works goes on, all heals by itself."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Any

import pytest

from tests.lab import Host, Lab, Network
from tests.mesh import Mesh, failure, has_interface, live_addresses, live_peers, reaches
from tests.reliability.disk import SmallDisk

DATA = "/var/lib/nmk/server"
STATE = "/var/lib/nmk"
Starved = Callable[[SmallDisk], AbstractContextManager[None]]


class CrampedMesh(Mesh):
    """A mesh whose controller has its data on a small disk."""

    disk: SmallDisk

    def machine(self, name: str, on: Network | None = None, **options: Any) -> Host:
        host = super().machine(name, on, **options)
        if name == "controller":
            self.disk = SmallDisk.mount(host, DATA, "4m")
        return host


@pytest.fixture(scope="module")
def mesh(module_lab: Lab) -> CrampedMesh:
    return CrampedMesh(module_lab)


@pytest.fixture(scope="module")
def anna(mesh: CrampedMesh) -> Host:
    [anna] = mesh.members("anna")
    return anna


@pytest.fixture(scope="module")
def cramped(mesh: CrampedMesh) -> Host:
    """A machine that has its state on a small disk."""
    cramped = mesh.machine("bert")
    SmallDisk.mount(cramped, STATE, "64k")
    return cramped


@pytest.fixture
def bert(cramped: Host) -> Iterator[Host]:
    """That machine, in no network before and after."""
    yield cramped
    cramped.run("nmk", "leave", check=False)


def meet(mesh: CrampedMesh, one: Host, other: Host) -> None:
    """One hears of the other, which has just joined, and they reach each other."""
    one.run("nmk", "checkin")
    reaches(other, mesh.address(one.name))


def is_seen_to_fail(mesh: Mesh, host: Host, code: str) -> None:
    """Check-ins of a machine fail, which shows there and on the controller."""
    [here] = json.loads(host.run("nmk", "status", "-o", "json").stdout)
    told = here["check_in"]
    assert (told["failure"]["code"], told["failure"]["count"]) == (code, 2)
    assert told["revision"], "it follows what it followed before"
    text = host.run("nmk", "status").stdout
    assert "\nfailing     for " in text
    assert told["failure"]["message"] in text
    found = json.loads(host.run("nmk", "doctor", "-o", "json", check=False).stdout)
    [finding] = [f for f in found if f["check"] == "check-ins" and f["level"] == "broken"]
    assert told["failure"]["message"] in finding["reason"]
    there = mesh.nodes()["bert"]["check_in"]
    assert there["failure"]["code"] == code
    assert there["revision"] < there["newest"]
    listed = mesh.controller.run("nmk", "node", "list")
    assert "CHECK-IN" in listed.stdout
    assert told["failure"]["message"] in listed.stderr


def is_well(mesh: Mesh, host: Host) -> bool:
    """That nothing shows any more."""
    [here] = json.loads(host.run("nmk", "status", "-o", "json").stdout)
    there = mesh.nodes()["bert"]["check_in"]
    assert "CHECK-IN" not in mesh.controller.run("nmk", "node", "list").stdout
    assert here["check_in"]["revision"] == here["check_in"]["newest"] == there["revision"]
    return not (here["check_in"]["failure"] or there["failure"])


def test_full_disk_of_the_controller(mesh: CrampedMesh, anna: Host, bert: Host) -> None:
    token = mesh.token()
    assert mesh.server
    with mesh.disk.full():
        refused = failure(bert, "join", "-", input=token)
        assert refused.exit_code == 75
        assert "disk is full" in refused.message
        assert not has_interface(bert)
        edit = failure(mesh.controller, "network", "set", "home", "keepalive=21")
        assert edit.exit_code == 75
        assert "disk is full" in edit.message
        anna.run("nmk", "checkin")
        assert mesh.nodes().keys() == {"anna"}
    mesh.join(bert, token=token)
    mesh.admin("network", "set", "home", "keepalive=22")
    assert mesh.server.running
    assert "Traceback" not in mesh.server.output
    meet(mesh, anna, bert)


def test_full_disk_at_the_start_of_the_controller(mesh: CrampedMesh, anna: Host) -> None:
    mesh.stop()
    with mesh.disk.full():
        started = failure(mesh.controller, "server")
        assert started.exit_code == 75
        assert DATA in started.message
    mesh.start()
    anna.run("nmk", "checkin")


@pytest.fixture(params=["full", pytest.param("read_only", marks=pytest.mark.full)])
def starved(request: pytest.FixtureRequest) -> Starved:
    """What befalls a disk."""
    what: Starved = getattr(SmallDisk, request.param)
    return what


def test_join_without_room_for_the_state(
    mesh: CrampedMesh, anna: Host, bert: Host, starved: Starved
) -> None:
    token = mesh.token()
    with starved(SmallDisk(bert, STATE)):
        refused = failure(bert, "join", "-", input=token)
        assert refused.exit_code == 1
        assert refused.message.startswith(f"{STATE}/home.json cannot be written: ")
        assert not has_interface(bert)
        assert mesh.nodes().keys() == {"anna"}
    mesh.join(bert, token=token)
    meet(mesh, anna, bert)


def test_check_in_without_room_for_the_state(
    mesh: CrampedMesh, anna: Host, bert: Host, starved: Starved
) -> None:
    mesh.join(bert)
    meet(mesh, anna, bert)
    seconds = "31" if starved is SmallDisk.full else "32"
    with starved(SmallDisk(bert, STATE)):
        bert.run("nmk", "checkin")
        mesh.admin("network", "set", "home", f"keepalive={seconds}")
        for _ in range(2):
            late = failure(bert, "checkin")
            assert late.exit_code == 1
            assert f"{STATE}/home.json cannot be written: " in late.message
        reaches(bert, mesh.address("anna"))
        is_seen_to_fail(mesh, bert, "state-unwritable")
    bert.run("nmk", "checkin")
    bert.run("nmk", "checkin")
    assert is_well(mesh, bert)
    assert list(live_peers(bert, "persistent-keepalive").values()) == [seconds]
    assert "[#]" not in bert.run("nmk", "checkin", "--verbose").stderr


@pytest.mark.usefixtures("anna")
def test_up_down_and_leave_without_room_for_the_state(
    mesh: CrampedMesh, bert: Host, starved: Starved
) -> None:
    mesh.join(bert)
    addresses = live_addresses(bert)
    with starved(SmallDisk(bert, STATE)):
        down = failure(bert, "down")
        assert (down.exit_code, has_interface(bert)) == (1, True)
        bert.run("ip", "link", "delete", "nmk-home")  # as after a reboot
        bert.run("nmk", "up")
        assert live_addresses(bert) == addresses
        if starved is SmallDisk.full:
            bert.run("nmk", "leave")
        else:
            assert failure(bert, "leave").exit_code == 1
        assert not has_interface(bert)
    bert.run("nmk", "leave", check=False)
    assert bert.run("find", STATE, "-type", "f").stdout == ""
    assert mesh.nodes().keys() == {"anna"}


def test_no_room_for_temporary_files(mesh: CrampedMesh, anna: Host, bert: Host) -> None:
    with SmallDisk.mount(bert, "/tmp", "100k").full():
        mesh.join(bert)
        meet(mesh, anna, bert)
        bert.run("nmk", "checkin")
        bert.run("nmk", "leave")
