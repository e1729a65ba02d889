"""The owner's own programs in /etc/nmk/hooks, called when the interface has really changed."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from nmk.errors import BadView
from tests.agent.memberships import full_view, joined, peer
from tests.agent.memberships import told as taken_in
from tests.lab import Host, Lab, poll
from tests.mesh import Mesh, has_interface, live_addresses, live_peers, reaches

HOOKS = "/etc/nmk/hooks"
TELL = 'echo "$NMK_EVENT $NMK_PEER" >> /root/events; env | grep ^NMK_ | sort > /root/told'
EVENTS = ("up", "down", "peer-added", "peer-removed")


@pytest.fixture(scope="module")
def mesh(module_lab: Lab) -> Mesh:
    return Mesh(module_lab)


@pytest.fixture(scope="module")
def web(mesh: Mesh) -> Host:
    """A member with all hooks, which was there before anybody else."""
    host = mesh.machine("web")
    for event in EVENTS:
        hook(host, event, TELL)
    return mesh.join(host)


@pytest.fixture(scope="module")
def settled_web(mesh: Mesh, web: Host) -> Host:
    """The same member; it knows the peer db now."""
    mesh.join(mesh.machine("db"))
    web.run("nmk", "checkin")
    return web


@pytest.fixture
def quiet_web(settled_web: Host) -> Iterator[Host]:
    """The same member, with nothing told yet; hooks that a test changes are put back."""
    events(settled_web)
    yield settled_web
    for event in EVENTS:
        hook(settled_web, event, TELL)


def hook(host: Host, event: str, script: str, mode: int = 0o755) -> str:
    path = f"{HOOKS}/{event}"
    host.write(path, f"#!/bin/sh\n{script}\n", mode)
    return path


def events(host: Host) -> list[str]:
    """What has happened since the last look."""
    lines = host.run("sh", "-c", "cat /root/events; rm -f /root/events", check=False).stdout
    return [line.strip() for line in lines.splitlines()]


def told(host: Host) -> dict[str, str]:
    lines = host.read("/root/told").splitlines()
    return dict(line.split("=", 1) for line in lines)


def test_a_join_calls_up(mesh: Mesh, web: Host) -> None:
    assert events(web) == ["up"]
    assert told(web) == {
        "NMK_EVENT": "up",
        "NMK_NETWORK": "home",
        "NMK_INTERFACE": "nmk-home",
        "NMK_NODE": "web",
        "NMK_ADDRESSES": " ".join(mesh.nodes()["web"]["addresses"]),
    }


def test_peers_come_and_go_and_nothing_else_calls(mesh: Mesh, quiet_web: Host) -> None:
    web, guest = quiet_web, mesh.join(mesh.machine("guest"))
    web.run("nmk", "checkin")
    assert events(web) == ["peer-added guest"]
    known = told(web)
    assert known["NMK_PEER_ADDRESSES"].split() == mesh.nodes()["guest"]["addresses"]
    assert known["NMK_PEER_KEY"] in live_peers(web, "endpoints")

    web.run("nmk", "checkin")
    mesh.admin("node", "set", "-n", "home", "guest", "endpoint=198.51.100.9:1")
    web.run("nmk", "checkin")
    assert events(web) == []

    guest.run("nmk", "leave")
    web.run("nmk", "checkin")
    assert events(web) == ["peer-removed guest"]
    assert told(web)["NMK_PEER_KEY"] == known["NMK_PEER_KEY"]


def test_down_up_and_a_reboot(quiet_web: Host) -> None:
    for command, called in (
        ("down", ["down"]),
        ("down", []),
        ("checkin", []),
        ("up", ["up"]),
        ("up", []),
    ):
        quiet_web.run("nmk", command)
        assert events(quiet_web) == called, command
    quiet_web.reboot()
    quiet_web.run("nmk", "checkin")
    assert events(quiet_web) == ["up"]


def test_a_dry_run_shows_the_hook_and_does_not_call_it(quiet_web: Host) -> None:
    shown = quiet_web.run("nmk", "down", "--dry-run").stdout
    assert f"[#] {HOOKS}/down\n" in shown
    assert events(quiet_web) == []


def test_a_hook_can_ask_nmk_and_has_no_secrets(quiet_web: Host) -> None:
    hook(quiet_web, "up", "env > /root/told; nmk status -o name; nmk checkin; echo $?")
    quiet_web.run("nmk", "down")
    done = quiet_web.run("nmk", "up", env={"NMK_JOIN_TOKEN": "nmk1.secret"})
    said = done.stderr.splitlines()
    assert "hook up: db" in said
    assert "hook up: 0" in said
    assert "nmk1.secret" not in quiet_web.read("/root/told")


def test_a_hook_that_hangs_keeps_nobody_from_his_work(quiet_web: Host) -> None:
    """Its own hooks come after it, in the order in which things happened."""
    wait = "mkfifo /root/gate; echo hangs >> /root/events; read -r _ < /root/gate; rm /root/gate"
    hook(quiet_web, "down", f"{wait}; {TELL}")
    first = quiet_web.start("nmk", "down")
    poll(lambda: "hangs" in quiet_web.run("cat", "/root/events", check=False).stdout, 20, "hook")
    second = quiet_web.start("nmk", "up")
    poll(lambda: has_interface(quiet_web), 20, "the interface is up again")
    assert events(quiet_web) == ["hangs"]
    quiet_web.run("sh", "-c", "echo > /root/gate")
    assert (first.wait(), second.wait()) == (0, 0)
    assert events(quiet_web) == ["down", "up"]


WAITS_IN = (  # what the agent's main thread waits in: select(2), or at the end its thread of hooks
    "for p in /proc/[0-9]*; do grep -qz '^agent$' $p/cmdline && cat $p/wchan; done 2>/dev/null; :"
)


def test_the_agent_mends_while_a_hook_hangs(quiet_web: Host) -> None:
    wait = "[ -p /root/gate ] || mkfifo /root/gate; read -r _ < /root/gate"
    hook(quiet_web, "up", f"{TELL}; {wait}")
    agent = quiet_web.start("nmk", "agent")
    agent.wait_for("keeping")
    for _ in range(2):
        quiet_web.run("ip", "link", "delete", "nmk-home")
        poll(lambda: has_interface(quiet_web), 10, "the interface is back")
        poll(lambda: quiet_web.run("test", "-p", "/root/gate", check=False).returncode == 0, 10,
             "the hook")  # fmt: skip
    looks = (quiet_web.run("sh", "-c", WAITS_IN).stdout for _ in range(5))
    assert not all("futex" in look for look in looks)  # where it may wait for the interpreter
    agent.terminate()
    poll(lambda: "futex" in quiet_web.run("sh", "-c", WAITS_IN).stdout, 10, "end that waits")
    quiet_web.run("sh", "-c", "timeout 20 sh -c 'echo > /root/gate'; rm /root/gate")
    agent.wait()
    assert events(quiet_web) == ["up"]  # the other one was left out, and said
    assert "hooks: nmk agent ends; calls left out: 1" in agent.output


def test_a_hook_that_fails_is_said_and_stops_nothing(mesh: Mesh, quiet_web: Host) -> None:
    hook(quiet_web, "up", "echo no luck >&2; exit 7")
    quiet_web.run("nmk", "down")
    done = quiet_web.run("nmk", "up", "--quiet")
    assert done.stderr == "hook up: no luck\nhook up: it ended with 7\n"
    reaches(quiet_web, mesh.address("db"))


def test_what_others_can_write_is_refused_and_said(mesh: Mesh, quiet_web: Host) -> None:
    path = hook(quiet_web, "up", TELL, mode=0o775)
    quiet_web.run("nmk", "down")
    events(quiet_web)
    done = quiet_web.run("nmk", "up", "--quiet")
    assert done.stderr == f"hook up is not run: {path} can be written by others than root\n"
    assert events(quiet_web) == []
    assert live_addresses(quiet_web) == mesh.nodes()["web"]["addresses"]


def test_a_refusal_is_said_once_for_many_peers(mesh: Mesh, quiet_web: Host) -> None:
    quiet_web.run("chmod", "g+w", "/etc/nmk")
    for name in ("one", "two"):
        mesh.join(mesh.machine(name))
    done = quiet_web.run("nmk", "checkin", "--quiet")
    quiet_web.run("chmod", "g-w", "/etc/nmk")
    refusal = "hook peer-added is not run: /etc/nmk can be written by others than root\n"
    assert done.stderr == refusal
    assert events(quiet_web) == []
    assert len(live_peers(quiet_web, "endpoints")) == 3


@pytest.mark.parametrize(
    "name",
    ["$(reboot)", "a;reboot", "a\nNMK_EVENT=up", "a b", "../up", "`id`", "-rf", "A", "", "a" * 64],
)
def test_a_hostile_name_never_comes_as_far_as_a_hook(name: str) -> None:
    me = joined()
    with pytest.raises(BadView):
        taken_in(me, full_view(me, peer(2) | {"name": name}))
