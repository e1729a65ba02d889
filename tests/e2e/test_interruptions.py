"""Whatever cuts a run short, the next one carries on: same node, one use of the key."""

from __future__ import annotations

import json
import signal
from dataclasses import replace
from itertools import count

import pytest

from nmk.wire.token import encode_token, parse_token
from tests.e2e.spy import Spy
from tests.hostile.middlebox import Middlebox, lose_replies
from tests.lab import Host
from tests.mesh import INTERFACE, PORT, Mesh, failure, has_interface, live_addresses, reaches

STATE = "/var/lib/nmk/home.json"
PROGRAMS = ("wg", "ip", "wireguard-go")


@pytest.fixture(scope="module")
def anna(mesh: Mesh) -> Host:
    [anna] = mesh.members("anna")
    return anna


@pytest.fixture(scope="module")
def emil(mesh: Mesh) -> Host:
    [emil] = mesh.members("emil")
    return emil


def identity(host: Host) -> str:
    found: str = json.loads(host.read(STATE))["identity"]
    return found


def has_not_begun(host: Host) -> bool:
    return STATE not in host.run("find", "/var/lib/nmk", check=False).stdout


def is_in_once(mesh: Mesh, anna: Host, host: Host) -> None:
    """The machine is the one node of its name, let in once, and works."""
    names = [name for name in mesh.nodes() if name.startswith(host.name)]
    assert names == [host.name]
    [key] = [k for k in mesh.json("key", "list", "-n", "home") if host.name in k["nodes"]]
    assert key["uses"] == 1
    assert live_addresses(host) == mesh.nodes()[host.name]["addresses"]
    anna.run("nmk", "checkin")
    reaches(anna, mesh.address(host.name))


KILLED = pytest.param("kill_at", marks=pytest.mark.full)  # tests/reliability has a sample of it


@pytest.mark.parametrize("how", ["fail_at", KILLED])
def test_a_join_that_is_cut_short_at_any_command(mesh: Mesh, anna: Host, how: str) -> None:
    host = mesh.machine({"fail_at": "bert", "kill_at": "cleo"}[how])
    spy = Spy(host, *PROGRAMS)
    identities: list[str] = []
    for number in count(1):
        token = mesh.token()
        spy.clear(**{how: number})
        done = host.run("nmk", "join", "-", input=token, check=False)
        if not identities and has_not_begun(host):  # it only looked, and asked nobody
            assert how == "kill_at"
            assert done.returncode == -signal.SIGKILL
            assert host.name not in mesh.nodes()
            continue
        identities.append(identity(host))
        if len(spy.calls()) < number:
            break
        if how == "kill_at":
            assert done.returncode == -signal.SIGKILL
        elif done.returncode:
            assert "has no mood" in done.stderr
            assert not has_interface(host)
            assert host.run("ls", "/run/wireguard", check=False).stdout == ""
        spy.clear()
        mesh.join(host, token=token)
        assert identity(host) == identities[-1]
        is_in_once(mesh, anna, host)
        host.run("nmk", "leave")
    # At least to make the interface, to configure it, to give it addresses.
    assert len(identities) > 3


def test_a_join_whose_reply_is_lost(mesh: Mesh, anna: Host) -> None:
    dora, middle = mesh.machine("dora"), mesh.lab.host("middle", on=mesh.internet)
    token = parse_token(mesh.token())
    astray = encode_token(replace(token, urls=(f"http://{middle.address}:{PORT}",)))
    with Middlebox(mesh.urls[0], lose_replies, host=middle, port=PORT):
        lost = failure(dora, "join", "-", input=astray)
    assert lost.exit_code == 75
    assert "dora" in mesh.nodes()
    assert not has_interface(dora)
    before = identity(dora)
    mesh.join(dora, token=encode_token(token))
    assert identity(dora) == before
    is_in_once(mesh, anna, dora)


@pytest.mark.parametrize("how", ["fail_at", KILLED])
def test_a_check_in_that_is_cut_short_at_any_command(mesh: Mesh, emil: Host, how: str) -> None:
    index = emil.read(f"/sys/class/net/{INTERFACE}/ifindex")
    spy = Spy(emil, *PROGRAMS)
    for number in count(1):
        mtu = 1300 + number if how == "fail_at" else 1400 + number
        mesh.admin("network", "set", "home", f"mtu={mtu}")
        spy.clear(**{how: number})
        done = emil.run("nmk", "checkin", check=False)
        if len(spy.calls()) < number:
            break
        assert how == "fail_at" or done.returncode == -signal.SIGKILL
        spy.clear()
        emil.run("nmk", "checkin")
        assert emil.read(f"/sys/class/net/{INTERFACE}/mtu") == f"{mtu}\n"
    assert number > 3  # at least to look twice, and to change it
    assert emil.read(f"/sys/class/net/{INTERFACE}/ifindex") == index


def test_two_runs_at_once(emil: Host) -> None:
    spy = Spy(emil, "wg")
    spy.close_gate()
    first = emil.start("nmk", "checkin")
    spy.wait_at_gate()
    told = failure(emil, "checkin")
    busy = "home: another run of nmk is at work in /var/lib/nmk (nmk checkin, process "
    assert told.message.startswith(busy)
    other = told.message.removeprefix(busy).partition(")")[0]
    hint = f"wait for the other run to end; if it does not: kill -KILL {int(other)}"
    assert (told.exit_code, told.hint) == (75, hint)
    assert len(spy.calls()) == 1
    spy.open_gate()
    assert first.wait() == 0
    emil.run("nmk", "checkin")
