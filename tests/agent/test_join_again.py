"""`nmk join` on a machine that is in the network already: done, refused whole, or said."""

from __future__ import annotations

import json

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


@pytest.mark.parametrize("by", ["join", "set"])
def test_a_port_that_is_taken_is_refused_and_nothing_changes(
    place: Place, host: Host, by: str
) -> None:
    before = state_of(host)
    asked = ["join", place.token(), "--listen-port", "5555"]
    asked = asked if by == "join" else ["set", "listen-port=5555", "kill-switch=on"]
    ask = ("python3", "-c", HOLDS, *NMK, *asked)
    done = host.run(*ask, check=False, env={"PYTHONPATH": SOURCE})
    assert (done.returncode, "UDP port 5555 is in use" in done.stderr) == (1, True)
    assert state_of(host)["wishes"] == before["wishes"]
    assert nmk(host, "checkin").returncode == 0


def test_the_port_asked_for_when_joining_is_shown_until_another_is_set(
    place: Place, host: Host
) -> None:
    assert nmk(host, "join", place.token(), "--listen-port", "51901").returncode == 0
    for change, port, source in (
        (None, 51901, "nmk join"),
        ("listen-port=51902", 51902, "nmk set"),
        ("listen-port=", 51821, "the network"),
    ):
        assert change is None or nmk(host, "set", change).returncode == 0
        shown = {row["name"]: row for row in json.loads(nmk(host, "show", "-o", "json").stdout)}
        assert (shown["listen-port"]["value"], shown["listen-port"]["from"]) == (port, source)
        there = host.run("wg", "show", "nmk-home", "listen-port").stdout
        assert int(there) == port


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
