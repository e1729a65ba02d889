"""WireGuard interfaces for real: a program that drives nmk.system runs in a host of the lab."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest

from tests.lab import Host, Lab

SOURCE = str(Path(__file__).parents[2])
PRELUDE = """
import json, os, signal, socket, subprocess
from pathlib import Path
from nmk.core.tunnel import Command, Tunnel, TunnelPeer, diff_tunnel, plan_changes
from nmk.errors import NmkError
from nmk.system import wireguard
from nmk.system.keys import generate_private_key, public_key
from nmk.system.runner import Runner

shown = []
run = Runner(shown.append)

def make(name="nmk-home"):
    wireguard.create(run, wireguard.creations(name), name)

def show(**values):
    print(json.dumps(values))
"""


@pytest.fixture
def host(lab: Lab) -> Host:
    return lab.host("a")


def run_in(host: Host, program: str) -> dict[str, Any]:
    """What the program, run in the host, shows."""
    code = PRELUDE + dedent(program)
    done = host.run(sys.executable, "-c", code, env={"PYTHONPATH": SOURCE})
    shown: dict[str, Any] = json.loads(done.stdout)
    return shown


def test_made_seen_and_removed_without_trace(host: Host) -> None:
    shown = run_in(
        host,
        """
        before = wireguard.probe(run, "nmk-home")
        for _ in range(3):  # at once again: the process before must have ended
            make()
            live = wireguard.probe(run, "nmk-home")
            wireguard.remove(run, "nmk-home")
        show(before=before, key=live.private_key, peers=live.peers, up=live.up,
             after=wireguard.exists("nmk-home"), left=list(map(str, wireguard.SOCKETS.glob("*"))))
        """,
    )
    assert shown == {
        "before": None,
        "key": "",
        "peers": {},
        "up": False,
        "after": False,
        "left": [],
    }


def test_a_plan_carried_out_leaves_nothing_to_do(host: Host) -> None:
    shown = run_in(
        host,
        """
        def tunnel(count, port, mtu, addresses):
            peers = [
                TunnelPeer(public_key(keys[n]), (f"10.1.0.{n + 2}/32", f"fd00::{n + 2:x}/128"),
                           25 * (n % 2), [None, f"192.0.2.{n}:1", f"[2001:db8::{n}]:2"][n % 3])
                for n in range(count)
            ]
            return Tunnel("nmk-home", private, port, mtu, addresses, {p.key: p for p in peers})

        private, keys = generate_private_key(), [generate_private_key() for _ in range(40)]
        given, left, commands = {}, [], []
        for want in (
            tunnel(5, 51821, 1420, ("10.1.0.1/16", "fd00::1/64")),
            tunnel(40, 51821, 1420, ("10.1.0.1/16", "fd00::1/64")),
            tunnel(30, 51822, 1280, ("10.1.0.9/16",)),
            tunnel(0, 51822, 1420, ("10.1.0.9/16", "fd00::9/64")),
        ):
            live = wireguard.probe(run, "nmk-home")
            ways = wireguard.creations("nmk-home")
            plan = plan_changes(
                want, live, diff_tunnel(want, live, given), given, ways[0].argv
            )
            for command in plan:
                if command == ways[0]:
                    wireguard.create(run, ways, "nmk-home")
                else:
                    run.change(command)
            given = {p.key: p.endpoint for p in want.peers.values() if p.endpoint}
            live = wireguard.probe(run, "nmk-home")
            left += [c.line for c in diff_tunnel(want, live, given)]
            commands.append(len(plan))
        show(left=left, commands=commands)
        """,
    )
    assert shown == {"left": [], "commands": [3, 1, 2, 2]}


def test_what_a_dead_process_leaves_is_no_interface(host: Host) -> None:
    shown = run_in(
        host,
        """
        make()
        pid = int(subprocess.check_output(["pgrep", "-x", "wireguard-go"]))
        os.kill(pid, signal.SIGKILL)
        run.wait("it ends", lambda: not wireguard.exists("nmk-home"))
        stale = [s.name for s in wireguard.SOCKETS.glob("*")]
        dead = wireguard.probe(run, "nmk-home")
        make()
        again = wireguard.probe(run, "nmk-home")
        wireguard.remove(run, "nmk-home")
        show(stale=stale, dead=dead, again=again is not None,
             left=[s.name for s in wireguard.SOCKETS.glob("*")])
        """,
    )
    assert shown == {"stale": ["nmk-home.sock"], "dead": None, "again": True, "left": []}


def test_one_whose_process_is_stopped_goes_all_the_same(host: Host) -> None:
    """Whoever else has a socket that is called like its own stays."""
    shown = run_in(
        host,
        """
        make()
        Path("/tmp/run/wireguard").mkdir(parents=True)
        theirs = socket.socket(socket.AF_UNIX)
        theirs.bind("/tmp/run/wireguard/nmk-home.sock")
        other = subprocess.Popen(["sleep", "60"], pass_fds=[theirs.fileno()])
        theirs.close()
        broken = socket.socket(socket.AF_UNIX)
        broken.bind("\\0a\\n b/run/wireguard/nmk-home.sock")  # a line of /proc/net/unix, not one
        os.kill(int(subprocess.check_output(["pgrep", "-x", "wireguard-go"])), signal.SIGSTOP)
        wireguard.remove(run, "nmk-home")
        there = wireguard.exists("nmk-home")
        make()
        again = wireguard.probe(run, "nmk-home")
        wireguard.remove(run, "nmk-home")
        show(there=there, again=again is not None, other=other.poll())
        other.kill()
        """,
    )
    assert shown == {"there": False, "again": True, "other": None}


def test_one_that_was_renamed_is_told_by_its_number(host: Host) -> None:
    """And not by its key: another may have that, or the number of one that is none of WireGuard."""
    shown = run_in(
        host,
        """
        key = generate_private_key()
        for name in ("nmk-home", "other"):
            make(name)
            run.change(Command(("wg", "set", name, "private-key", "/dev/stdin"), key))
        number, lo = map(socket.if_nametoindex, ("nmk-home", "lo"))
        found = [wireguard.renamed(run, "nmk-home", key, number)]
        wireguard.name_again(run, "nmk-home", "theirs")
        for seen, asked in (
            (key, number), (generate_private_key(), number), (key, lo), (key, 9999)
        ):
            found.append(wireguard.renamed(run, "nmk-home", seen, asked))
        wireguard.name_again(run, "theirs", "nmk-home")
        wireguard.remove(run, "nmk-home")
        found.append(wireguard.renamed(run, "nmk-home", key, number))
        show(found=found)
        """,
    )
    assert shown == {"found": [None, "theirs", None, None, None, None]}


def test_one_that_was_renamed_is_told_by_its_process_where_no_number_is_known(host: Host) -> None:
    """And not by its key, nor by another process that has it."""
    shown = run_in(
        host,
        """
        key = generate_private_key()
        for name in ("nmk-home", "other"):
            make(name)
            run.change(Command(("wg", "set", name, "private-key", "/dev/stdin"), key))
        found = [wireguard.renamed(run, "nmk-home", key, None)]
        wireguard.name_again(run, "nmk-home", "theirs")
        for seen, name in ((key, "nmk-home"), (generate_private_key(), "nmk-home"), (key, "nmk-x")):
            found.append(wireguard.renamed(run, name, seen, None))
        show(found=found, of_key=sorted(wireguard.of_key(run, key)))
        """,
    )
    assert shown == {"found": [None, "theirs", None, None], "of_key": ["other"]}


def test_an_interface_of_another_kind_is_not_ours(host: Host) -> None:
    shown = run_in(
        host,
        """
        run.change(Command(("ip", "link", "add", "nmk-home", "type", "bridge")))
        try:
            wireguard.probe(run, "nmk-home")
        except NmkError as error:
            show(code=error.code, message=error.message)
        """,
    )
    assert shown["code"] == "interface-taken"
    assert "'nmk-home' is no WireGuard interface" in shown["message"]


def test_what_cannot_make_one_is_followed_by_what_can(host: Host) -> None:
    shown = run_in(
        host,
        """
        ways = wireguard.creations("nmk-home")
        wireguard.create(run, [Command(("false", "nmk-home")), *ways], "nmk-home")
        made = wireguard.exists("nmk-home")
        try:
            wireguard.create(run, [Command(("ip", "link", "add", "x", "type", "none"))], "x")
        except NmkError as error:
            show(made=made, code=error.code, hint=error.hint)
        """,
    )
    assert shown["made"]
    assert shown["code"] in {"tool-missing", "command-failed"}  # the latter with a kernel that can


def test_the_owners_choice_of_a_userspace_wireguard(host: Host) -> None:
    host.run("ln", "-s", "/usr/bin/wireguard-go", "/usr/local/bin/my-wireguard")
    shown = run_in(
        host,
        """
        os.environ["WG_QUICK_USERSPACE_IMPLEMENTATION"] = "my-wireguard"
        make()
        show(shown=shown, made=wireguard.exists("nmk-home"))
        """,
    )
    assert shown == {"shown": ["[#] my-wireguard nmk-home"], "made": True}


def test_where_all_peers_of_all_interfaces_are_called(host: Host) -> None:
    """`wg show all endpoints` names an interface once, and one without peers on the next line."""
    shown = run_in(
        host,
        """
        keys = [public_key(generate_private_key()) for _ in range(4)]
        for name in ("wga", "wgb", "wgc"):
            make(name)
        called = [f"10.99.0.{number}:51820" for number in (5, 6)] + ["[fd99::7]:51820"]
        for key, endpoint in zip(keys, called):
            subprocess.run(["wg", "set", "wgb", "peer", key, "endpoint", endpoint], check=True)
        subprocess.run(["wg", "set", "wgb", "peer", keys[3]], check=True)
        show(found=wireguard.endpoints(run), called=called)
        """,
    )
    assert shown["found"] == dict.fromkeys(shown["called"], "wgb")
