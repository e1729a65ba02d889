"""Commands on one machine at a time: none waits for another one's controller."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.lab import Host, Process, poll
from tests.mesh import PORT, Mesh, failure, has_interface


@pytest.fixture
def anna(mesh: Mesh) -> Host:
    [anna] = mesh.members("anna")
    return anna


@contextmanager
def silent(server: Process) -> Iterator[None]:
    """A controller that takes connections and does not answer."""
    server.signal(signal.SIGSTOP)
    try:
        yield
    finally:
        # nsenter has stopped together with the controller, and passes this on.
        server._process.send_signal(signal.SIGCONT)


def test_a_controller_that_keeps_a_check_in_waiting_keeps_nobody_else(
    mesh: Mesh, anna: Host
) -> None:
    assert mesh.server
    with silent(mesh.server):
        first = anna.start("nmk", "checkin")
        asks = ("ss", "-Htn", "state", "established", f"( dport = :{PORT} )")
        poll(lambda: anna.run(*asks).stdout, 10, "check-in that waits for its answer")
        for command in (("set", "mtu=1380"), ("up",), ("down",)):
            anna.run("nmk", *command)
        assert not has_interface(anna)
        assert first.running

    assert first.wait() == 0, first.output
    assert not has_interface(anna), "what was done meanwhile stays done"
    assert "nmk-home is down" in first.output
    shown = json.loads(anna.run("nmk", "show", "-o", "json").stdout)
    assert {"name": "mtu", "value": 1380, "from": "nmk set"} in shown
    assert anna.run("nmk", "checkin", "--quiet").stderr == ""


def test_a_machine_that_left_meanwhile_has_left(mesh: Mesh, anna: Host) -> None:
    assert mesh.server
    with silent(mesh.server):
        first = anna.start("nmk", "checkin")
        asks = ("ss", "-Htn", "state", "established", f"( dport = :{PORT} )")
        poll(lambda: anna.run(*asks).stdout, 10, "check-in that waits for its answer")
        anna.run("rm", "/var/lib/nmk/home.json")  # as a leave ends; one would wait as well
    assert first.wait() == 75, first.output
    assert "left, or joined anew" in first.output
    left = anna.run("sh", "-c", "ls /var/lib/nmk /run/nmk/home.health", check=False).stdout
    assert "home.json" not in left


def test_a_person_waits_for_another_run_and_a_check_in_does_not(mesh: Mesh, anna: Host) -> None:
    lock = "/var/lib/nmk/lock"

    def hold() -> Process:
        holder = anna.start("flock", "--close", lock, "sh", "-c", "echo held; exec sleep 600")
        holder.wait_for("held", 10)
        return holder

    def who_has_it_open() -> list[str]:
        find = f"find /proc/[0-9]*/fd -lname {lock}"
        return anna.run("sh", "-c", find, check=False).stdout.split()

    holder = hold()
    at_once = anna.run("nmk", "checkin", "--quiet", check=False)
    assert (at_once.returncode, at_once.stdout, at_once.stderr) == (75, "", "")
    told = failure(anna, "up")
    assert told.exit_code == 75
    assert "another run of nmk is at work in /var/lib/nmk (flock, process " in told.message
    waiting = [anna.start("nmk", *command) for command in (("down",), ("set", "mtu=1380"))]
    poll(lambda: len(who_has_it_open()) > len(waiting), 10, "commands that wait")
    holder.kill()
    assert [command.wait() for command in waiting] == [0, 0], [c.output for c in waiting]

    holder = hold()
    leaving = anna.start("nmk", "leave")
    poll(lambda: len(who_has_it_open()) > 1, 10, "command that waits")
    holder.kill()
    assert leaving.wait() == 0, leaving.output
    assert "anna" not in mesh.nodes()
