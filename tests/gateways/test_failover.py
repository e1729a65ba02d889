"""Several gateways for one range: a machine goes over to the next, and back, by itself."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from itertools import pairwise
from time import time
from typing import Any, NamedTuple

import pytest

from tests.gateways.sites import check_in, give, key_of, mesh_ranges, status
from tests.lab import Host, patient, poll
from tests.mesh import Mesh, live_peers

DEADLINE = 90.0  # seconds
FIRST_CHECK_INS = (1.0, 4.0, 30.0)  # seconds after the outage
NEXT_CHECK_INS = 5.0
NO_OUTAGE = 5.0  # seconds without an answer that a change of gateways may take
FAILING_WG = """#!/bin/sh
case $1 in
syncconf | addconf | set) [ ! -e /tmp/no-memory ] || { echo no memory >&2; exit 1; } ;;
esac
exec /usr/bin/wg "$@"
"""
REPLY = re.compile(r"^\[(\d+\.\d+)\] \d+ bytes from", re.MULTILINE)


class Pings:
    """A ping that runs on, and when it was answered, in seconds since 1970."""

    def __init__(self, source: Host, address: str) -> None:
        self._process = source.start("ping", "-n", "-D", "-i", "0.2", address)

    def replies(self) -> list[float]:
        return [float(at) for at in REPLY.findall(self._process.output)]

    def answered_since(self, moment: float) -> bool:
        """Whether there was an answer that had not been on its way then."""
        return any(at > moment + 1 for at in self.replies())

    def longest_pause(self, since: float, until: float) -> float:
        """The longest time without an answer that began in this while."""
        moments = [since, *(at for at in self.replies() if at > since)]
        return max((b - a for a, b in pairwise(moments) if a < until), default=DEADLINE)


@dataclass(frozen=True)
class Pair:
    """A LAN with two gateways, of which the first one is preferred, and a host without nmk."""

    cidr: str
    first: Host
    second: Host
    host: Host
    names: dict[str, str]  # of the gateways, by their keys

    def used_by(self, viewer: Host) -> str:
        """The gateway that a machine's WireGuard sends the range's packets to."""
        ranges = live_peers(viewer, "allowed-ips")
        return next(self.names[key] for key, text in ranges.items() if self.cidr in text.split())


class Cron:
    """Check-ins of a machine without `nmk agent`, at certain moments."""

    def __init__(self, host: Host, start: float, moments: tuple[float, ...] = ()) -> None:
        self.host = host
        self.count = 0
        self._due = [start + moment for moment in moments] or [start]

    def look(self) -> None:
        """Check in, if it is time. There is no controller."""
        if time() < self._due[0]:
            return
        done = self.host.run("nmk", "checkin", check=False)
        assert done.returncode == 75, done.stderr
        self.count += 1
        self._due.pop(0)
        self._due = self._due or [time() + NEXT_CHECK_INS]


class Outage(NamedTuple):
    """What three pings made of it; times in seconds, by the pings' names.

    `lost`: without an answer. `back`: until the first gateway was in use again, and `lost_then`.
    `meanwhile`, `after`: what the machine with the agent shows; `logged`: lines of `nmk log`, by
    machines.
    """

    lost: dict[str, float]
    check_ins: int
    meanwhile: dict[str, Any]
    back: dict[str, float]
    lost_then: dict[str, float]
    after: dict[str, Any]
    logged: dict[str, set[str]]


def make_pair(mesh: Mesh, name: str, number: int, nat: str) -> Pair:
    lan = mesh.lab.lan(name, f"192.168.{number}.0/24")
    cidr = str(lan.subnets[0])
    first, second = (mesh.join(mesh.machine(f"{name}-{place}")) for place in (1, 2))
    for gateway, metric in ((first, "10"), (second, "20")):
        gateway.attach(lan)
        give(mesh, gateway.name, cidr, "--same-lan", "--metric", metric, "--nat", nat)
    names = {key_of(gateway): gateway.name for gateway in (first, second)}
    return Pair(cidr, first, second, mesh.lab.host(f"{name}-host", on=lan), names)


@pytest.fixture(scope="module")
def outage(mesh: Mesh) -> Outage:
    """The first gateway of one LAN loses its line, that of another its power; both come back."""
    office, plant = make_pair(mesh, "office", 50, "auto"), make_pair(mesh, "plant", 60, "off")
    minded, plain = (mesh.join(mesh.machine(name)) for name in ("minded", "plain"))
    check_in(office.first, office.second, plant.first, plant.second, minded, plain)
    minded.start("nmk", "agent", "--verbose").wait_for("keeping")

    def plants_router_leads_to(gateway: Host) -> None:
        """Without NAT the LAN's router must follow as well, by VRRP for example."""
        via = gateway.links[1].address
        plant.host.run("ip", "route", "replace", cidr4, "via", via)

    cidr4, _ = mesh_ranges(mesh)
    plants_router_leads_to(plant.first)
    mesh.stop()
    pings = {
        "agent": Pings(minded, office.host.address),
        "agent, without nat": Pings(minded, plant.host.address),
        "cron": Pings(plain, office.host.address),
    }
    ways = {
        "agent": (office, minded),
        "agent, without nat": (plant, minded),
        "cron": (office, plain),
    }

    def all_answered_since(moment: float) -> bool:
        return all(ping.answered_since(moment) for ping in pings.values())

    poll(lambda: all_answered_since(0), 30, "answer to each ping")
    check_in_without_controller(plain)

    gone = time()
    office.first.unplug(mesh.internet)
    plant.first.stop()
    plants_router_leads_to(plant.second)
    cron = Cron(plain, gone, FIRST_CHECK_INS)

    def went_over() -> bool:
        cron.look()
        return all_answered_since(gone)

    poll(went_over, DEADLINE, "answer by the second gateways")
    over = time()
    lost = {name: ping.longest_pause(gone, over) for name, ping in pings.items()}
    check_ins, meanwhile = cron.count, status(minded)

    again = time()
    office.first.plug(mesh.internet)
    plant.first.boot()
    check_in_without_controller(plant.first)
    cron = Cron(plain, again)
    back: dict[str, float] = {}

    def came_back() -> bool:
        cron.look()
        for name, (pair, viewer) in ways.items():
            if name not in back and pair.used_by(viewer) == pair.first.name:
                back[name] = time() - again
                if pair is plant:
                    plants_router_leads_to(plant.first)
        return back.keys() == ways.keys()

    poll(came_back, DEADLINE, "use of the first gateways")
    settled = time()
    poll(lambda: all_answered_since(settled), 30, "answer by the first gateways")
    lost_then = {name: ping.longest_pause(again, settled) for name, ping in pings.items()}
    logged = {host.name: log(host) for host in (minded, plain)}
    return Outage(lost, check_ins, meanwhile, back, lost_then, status(minded), logged)


def check_in_without_controller(host: Host) -> None:
    assert host.run("nmk", "checkin", check=False).returncode == 75


def routes(shown: dict[str, Any]) -> dict[str, tuple[str, list[str]]]:
    return {route["range"]: (route["gateway"], route["standby"]) for route in shown["routes"]}


def silent(shown: dict[str, Any]) -> set[str]:
    return {peer["name"] for peer in shown["peers"] if peer["state"] == "silent"}


def log(host: Host) -> set[str]:
    entries = json.loads(host.run("nmk", "log", "-o", "json").stdout)
    return {line for entry in entries for line in entry["changes"]}


def test_going_over_that_fails_is_tried_again(mesh: Mesh) -> None:
    """By the agent itself: the next check-in may be a day away, and the controller gone."""
    pair = make_pair(mesh, "mill", 70, "auto")
    viewer = mesh.join(mesh.machine("patient"))
    viewer.write("/usr/local/bin/wg", FAILING_WG, 0o755)
    mesh.admin("network", "set", "home", "interval=3600")
    check_in(pair.first, pair.second, viewer)
    agent = viewer.start("nmk", "agent", "--verbose")
    agent.wait_for("keeping")
    assert pair.used_by(viewer) == pair.first.name
    pings = Pings(viewer, pair.host.address)
    poll(pings.replies, 30, "answer")
    viewer.write("/tmp/no-memory", "")
    pair.first.stop()
    agent.wait_for("no memory", DEADLINE)
    assert pair.used_by(viewer) == pair.first.name
    viewer.run("rm", "/tmp/no-memory")
    mended = time()
    poll(lambda: pings.answered_since(mended), DEADLINE, "answer by the second gateway")
    agent.terminate()
    agent.wait()
    mesh.admin("network", "set", "home", "interval=60")
    for host in (pair.first, pair.second, viewer):
        mesh.admin("node", "delete", "-n", "home", host.name, "--yes")


def test_the_agent_goes_over_in_half_a_minute(outage: Outage) -> None:
    assert 15 < outage.lost["agent"] < patient(45)
    assert routes(outage.meanwhile)["192.168.50.0/24"] == ("office-2", ["office-1"])


def test_the_agent_goes_over_where_there_is_no_nat_as_well(outage: Outage) -> None:
    assert 15 < outage.lost["agent, without nat"] < patient(45)
    assert routes(outage.meanwhile)["192.168.60.0/24"] == ("plant-2", ["plant-1"])


def test_a_machine_with_cron_goes_over_at_its_third_check_in(outage: Outage) -> None:
    assert outage.check_ins == 3
    assert outage.lost["cron"] < patient(DEADLINE)


def test_the_first_gateway_serves_again_once_it_answers(outage: Outage) -> None:
    assert all(seconds < patient(45) for seconds in outage.back.values())
    assert routes(outage.after) == {
        "192.168.50.0/24": ("office-1", ["office-2"]),
        "192.168.60.0/24": ("plant-1", ["plant-2"]),
    }


def test_a_gateway_that_was_given_up_is_shown_so_and_logged_by_name(outage: Outage) -> None:
    assert silent(outage.meanwhile) == {"office-1", "plant-1"}
    assert silent(outage.after) == set()
    news = {"office-1 fell silent", "office-1 answers again"}
    assert news <= outage.logged["plain"]
    news |= {"plant-1 fell silent", "plant-1 answers again"}
    assert news <= outage.logged["minded"]


def test_with_nat_nothing_is_lost_on_the_way_back(outage: Outage) -> None:
    assert outage.lost_then["agent"] < NO_OUTAGE
    assert outage.lost_then["cron"] < NO_OUTAGE
