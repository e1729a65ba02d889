"""`nmk join` on a machine that is in the network already: done, refused whole, or said."""

from __future__ import annotations

import pytest

from tests.agent.test_machine import NMK, SOURCE, Place, nmk, state_of
from tests.lab import Host

HOLDS = """import socket, subprocess, sys
taken = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
taken.bind(("", 5555))
sys.exit(subprocess.run(sys.argv[1:]).returncode)"""


@pytest.fixture(scope="module")
def host(place: Place) -> Host:
    return place.member("web")


def test_a_port_that_is_taken_is_refused_and_nothing_changes(place: Place, host: Host) -> None:
    before = state_of(host)
    join = (*NMK, "join", place.token(), "--listen-port", "5555")
    done = host.run("python3", "-c", HOLDS, *join, check=False, env={"PYTHONPATH": SOURCE})
    assert (done.returncode, "UDP port 5555 is in use" in done.stderr) == (1, True)
    assert state_of(host)["wishes"] == before["wishes"]
    assert nmk(host, "checkin").returncode == 0


def test_what_is_not_taken_is_said(place: Place, host: Host) -> None:
    asked = ("--name", "zzz", "--address", "10.77.0.99", "--interface", "wg9")
    done = nmk(host, "join", place.token(), *asked)
    assert done.returncode == 0
    change = "another one: on the controller: nmk node set -n home web"
    assert f"warning: it keeps its name; {change} name=zzz\n" in done.stderr
    assert f"warning: it keeps its address; {change} address=10.77.0.99\n" in done.stderr
    assert "warning: its interface stays nmk-home; another one: nmk leave" in done.stderr
    same = nmk(host, "join", place.token(), "--name", "web", "--interface", "nmk-home")
    assert "warning" not in same.stderr


def test_a_machine_that_is_down_stays_so_and_that_is_said(place: Place, host: Host) -> None:
    assert nmk(host, "down").returncode == 0
    done = nmk(host, "join", place.token())
    assert "Done: this machine is in home. It stays down until: nmk up -n home." in done.stderr
    assert nmk(host, "up").returncode == 0
