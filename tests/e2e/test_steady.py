"""A check-in that finds nothing new touches nothing; one that does touches what is new."""

from __future__ import annotations

import pytest

from tests.e2e.spy import Spy
from tests.lab import Host
from tests.mesh import Mesh, failure, live_peers

LOOKS = ["wg show nmk-home dump", "ip -json address show dev nmk-home"]
MORE_PEERS = "wg addconf nmk-home /dev/stdin"
FEWER_PEERS = "wg syncconf nmk-home /dev/stdin"


@pytest.fixture(scope="module")
def anna(mesh: Mesh) -> Host:
    [anna] = mesh.members("anna")
    return anna


@pytest.fixture(scope="module")
def spy_for_all(anna: Host) -> Spy:
    return Spy(anna, "wg", "ip", "wireguard-go")


@pytest.fixture
def spy(anna: Host, spy_for_all: Spy) -> Spy:
    """What anna runs from now on; she is up to date."""
    anna.run("nmk", "checkin")
    spy_for_all.clear()
    return spy_for_all


def state_files(host: Host) -> str:
    """Names, inodes, sizes and times of all that the agent keeps."""
    return host.run("find", "/var/lib/nmk", "-printf", "%p %i %s %T@ %C@\n").stdout


def test_nothing_new(mesh: Mesh, anna: Host, spy: Spy) -> None:
    files = state_files(anna)
    for _ in range(2):
        anna.run("nmk", "checkin")
    assert spy.calls() == 2 * LOOKS
    assert state_files(anna) == files
    with mesh.stopped():
        assert failure(anna, "checkin").exit_code == 75  # that is news, and written down once
        files = state_files(anna)
        assert failure(anna, "checkin").exit_code == 75
    assert spy.calls() == 4 * LOOKS
    assert state_files(anna) == files


def test_commands_do_not_grow_with_peers(mesh: Mesh, anna: Host, spy: Spy) -> None:
    for names in (["bert"], ["cleo", "dora", "emil"]):
        mesh.members(*names)
        spy.clear()
        anna.run("nmk", "checkin")
        assert spy.calls() == [*LOOKS, MORE_PEERS]
    assert len(live_peers(anna, "endpoints")) == 4
    for name in ("bert", "cleo"):
        mesh.admin("node", "delete", name, "--yes")
    spy.clear()
    anna.run("nmk", "checkin")
    assert spy.calls() == [*LOOKS, FEWER_PEERS]
    assert len(live_peers(anna, "endpoints")) == 2


def test_what_nobody_sees_changes_nothing(mesh: Mesh, anna: Host, spy: Spy) -> None:
    mesh.admin("network", "set", "home", "interval=90")
    anna.run("nmk", "checkin")
    assert spy.calls() == LOOKS


def test_up_twice(anna: Host, spy: Spy) -> None:
    files = state_files(anna)
    anna.run("nmk", "up")
    assert spy.calls() == LOOKS
    assert state_files(anna) == files


def test_a_hand_at_the_interface_is_undone(anna: Host, spy: Spy) -> None:
    anna.run("ip", "link", "set", "nmk-home", "mtu", "1400")
    spy.clear()
    anna.run("nmk", "checkin")
    assert spy.calls() == [*LOOKS, "ip -force -batch -"]
    spy.clear()
    anna.run("nmk", "checkin")
    assert spy.calls() == LOOKS
