"""What `nmk status` prints, for people and for scripts."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from nmk.agent import last_check_in, ping, state
from nmk.agent.astray import find_astray, find_picky
from nmk.agent.checks import gateway
from nmk.agent.checks import network as checks
from nmk.agent.checks.controller import check_claimed
from nmk.agent.checks.network import check_check_ins
from nmk.agent.claimed import claimed_controllers, claimed_exit
from nmk.agent.desired import desired_when_down, families
from nmk.agent.exits import NO_LAN, NOT_UP, CutOff, WayOut, find_way_out, observe
from nmk.agent.membership import Wishes
from nmk.agent.peer_status import Row, Trails, describe_clients, describe_peer, explain
from nmk.agent.reach import Visit
from nmk.agent.status import declined, describe_check_in
from nmk.agent.unmarked import LEFT_OUT
from nmk.cli.cut_off import tell_cut_off
from nmk.cli.machine_status import render_status
from nmk.cli.watch import remembered, watch
from nmk.core.amounts import show_age, show_ago, show_bytes
from nmk.core.check_in_health import after_failure, after_success, health_json
from nmk.core.peers import Peer, View
from nmk.core.problems import Problem
from nmk.core.records import ExtClient
from nmk.core.routes import Route, Routing
from nmk.core.tunnel import TunnelPeer
from nmk.errors import CommandFailed
from nmk.system import filter as filter_
from nmk.system import starters, sysctl
from nmk.system.dump import Dump, LivePeer
from nmk.system.runner import Runner
from tests.agent.memberships import joined, peer
from tests.core.made import (
    INGRESS,
    identity,
    made_client,
    made_egress,
    made_facts,
    made_mesh,
    made_node,
    made_view,
)

HERE = Path(__file__).parent
SILENT = Problem("unreachable", "cannot reach it", "is it on?")
LAN = ("192.168.1.1/24",)
NETWORKS: list[Row] = json.loads((HERE / "status.json").read_text())


def test_for_people() -> None:
    assert render_status(NETWORKS, "table") + "\n" == (HERE / "status.txt").read_text()


def test_for_scripts() -> None:
    assert render_status(NETWORKS, "json") + "\n" == (HERE / "status.json").read_text()
    assert render_status(NETWORKS, "name") == "db\nphone\nweb"
    assert json.loads(render_status(NETWORKS, "json", line=True)) == NETWORKS
    assert "\n" not in render_status(NETWORKS, "json", line=True)


@pytest.fixture
def view() -> View:
    me = joined(peer(2))
    assert me.known
    return me.known.view


@pytest.fixture
def db(view: View) -> Peer:
    [entry] = view.peers.values()
    return entry


def look(
    view: View, db: Peer, now: float, trails: Trails | None = None, **changes: int | str
) -> Row:
    """The peer as described, with what WireGuard says of it."""
    endpoint = str(changes.pop("endpoint", "192.168.1.2:51821"))
    counters = {"handshake": 0, "received": 0, "sent": 0, **changes}
    there = LivePeer(TunnelPeer(db.key, (), 0, endpoint), **counters)  # type: ignore[arg-type]  # numbers
    return describe_peer(db, there, view, LAN, now, {} if trails is None else trails)


def test_the_fields_of_a_peer(view: View, db: Peer) -> None:
    shown = look(view, db, 142.9, handshake=100, received=5, sent=7)
    assert shown == {
        "name": "peer-2",
        "addresses": ["10.77.0.2"],
        "state": "connected",
        "endpoint": "192.168.1.2:51821",
        "kind": "lan",
        "why": "in a subnet of ours",
        "handshake": 42,
        "received": 5,
        "sent": 7,
        "problem": None,
        "next": None,
    }
    for network in NETWORKS:
        assert all(row.keys() == shown.keys() for row in network["peers"])


def test_what_was_before_the_clock_was_put_back_is_in_the_future(
    view: View, db: Peer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown = look(view, db, 100, handshake=7300, received=5, sent=7)
    assert (shown["state"], shown["handshake"]) == ("idle", -7200)
    assert show_ago(-7200) == "in the future: the clock was put back"
    assert look(view, db, 100.2, handshake=101)["state"] == "connected"  # while we looked
    [client] = describe_clients(
        made_view(made_mesh(made_node(1, gateway=INGRESS), made_client(1))),
        Dump("", "", 1, {made_client(1).public_key: called_at(made_client(1), 7300)}),
        100,
    )
    assert client["state"] == "idle"
    monkeypatch.setenv("NMK_RUNTIME_DIR", str(tmp_path))
    me = replace(joined(), health=after_failure(after_success(7300, 7, []), 7400, SILENT))
    assert describe_check_in(me.health, me, 100)["worked"] == -7200
    assert describe_check_in(me.health, me, 100)["failure"]["since"] == -7300
    well = replace(joined(), health=after_success(7300, 7, []))
    (tmp_path / "home.health").write_text(json.dumps(health_json(well.health)))
    assert last_check_in.age("home", well, 100) == -7200
    monkeypatch.setattr(starters, "agent_runs", lambda: True)
    [found] = check_check_ins(well, 100, {})
    assert found.level == "broken"
    assert found.reason.startswith("the last one was in the future: the clock was put back, ")


def called_at(client: ExtClient, handshake: int) -> LivePeer:
    return LivePeer(TunnelPeer(client.public_key, (), 0, "203.0.113.9:1"), handshake, 5, 7)


def test_an_ingress_gateway_tells_of_its_own_clients() -> None:
    clients = [made_client(3), made_client(1), made_client(2, gateway=identity(2)), made_client(4)]
    gateways = [made_node(n, gateway=INGRESS) for n in (1, 2)]
    found = made_view(made_mesh(*gateways, *clients))
    called = {
        key: LivePeer(TunnelPeer(key, (), 0, endpoint), handshake, 5, 7)
        for key, endpoint, handshake in (
            (made_client(1).public_key, "203.0.113.9:1", 900),
            (made_client(3).public_key, None, 0),
            (made_client(4).public_key, "203.0.113.9:2", 820),
        )
    }
    rows = describe_clients(found, Dump("", "", 1, called), 1000)
    assert rows[0] == {
        "name": "c1",
        "addresses": ["10.20.0.201"],
        "ranges": [],
        "state": "connected",
        "endpoint": "203.0.113.9:1",
        "handshake": 100,
        "received": 5,
        "sent": 7,
    }
    assert [(r["name"], r["state"]) for r in rows[1:]] == [("c3", "idle"), ("c4", "idle")]
    assert {r["state"] for r in describe_clients(found, None, 1000)} == {"off"}
    for network in NETWORKS:
        assert all(row.keys() == rows[0].keys() for row in network["clients"])
    assert describe_clients(made_view(made_mesh(made_node(1), *clients)), None, 0) == []


def test_an_egress_gateway_tells_who_is_in_its_range_already() -> None:
    there = made_facts(2, lan=["192.168.7.5/24", "fd00:7::5/64"])
    wider = made_facts(3, lan=["192.168.1.5/16"])
    found = made_view(
        made_mesh(
            made_node(1, gateway=made_egress("192.168.7.0/24", "fd00:7::/48")),
            made_node(3, facts=wider),
            made_node(2, facts=there),
            made_node(4, facts=made_facts(4, lan=["192.168.7.5/25", "192.168.8.1/24"])),
        )
    )
    assert declined(found) == [
        {"range": "192.168.7.0/24", "node": "n2", "subnet": "192.168.7.0/24"},
        {"range": "192.168.7.0/24", "node": "n3", "subnet": "192.168.0.0/16"},
    ]


def test_a_peer_that_wireguard_heard_elsewhere(view: View, db: Peer) -> None:
    shown = look(view, db, 0, endpoint="192.0.2.7:1")
    assert (shown["kind"], shown["endpoint"]) == ("roamed", "192.0.2.7:1")
    assert shown["why"] == "where WireGuard heard it"
    assert shown["handshake"] is None
    assert shown["state"] == "idle"


def test_a_peer_of_an_interface_that_is_not_up(view: View, db: Peer) -> None:
    shown = describe_peer(db, None, view, LAN, 0, {})
    assert (shown["state"], shown["problem"], shown["sent"]) == ("off", None, 0)


def test_a_silent_peer_is_told_with_the_next_command(view: View, db: Peer) -> None:
    trails: Trails = {}
    clock = {"handshake": 100, "received": 900}
    assert look(view, db, 110, trails, **clock, sent=1000)["problem"] is None
    assert look(view, db, 112, trails, **clock, sent=2000)["problem"] is None
    silent = look(view, db, 140, trails, **clock, sent=3000)
    assert silent["state"] == "failed"
    assert silent["problem"] == "packets go out to 192.168.1.2:51821, and nothing comes back"
    assert silent["next"] == "nmk ping -n home peer-2"
    well = look(view, db, 142, trails, handshake=141, received=1000, sent=3100)
    assert well["state"] == "connected"


def test_hints_call_a_network_as_this_machine_does(view: View, db: Peer) -> None:
    """Where it has the network under another name; the controller has its own."""
    there = LivePeer(TunnelPeer(db.key, (), 0, "192.0.2.7:1"), 0, 0, 5000)
    failed = describe_peer(db, there, view, LAN, 142, {}, network="work")
    assert failed["next"] == "nmk ping -n work peer-2"
    waits = replace(db, lan=(), observed=())
    there = LivePeer(TunnelPeer(db.key, (), 0, None), 0, 0, 0)
    waiting = describe_peer(waits, there, view, LAN, 142, {}, network="work")
    assert (
        waiting["next"] == "on the controller: nmk node set -n home peer-2 endpoint=ADDRESS[:PORT]"
    )


def behind_nat(view: View, db: Peer, **changes: object) -> tuple[View, Peer]:
    """This machine and the peer, each behind a NAT of its own."""
    mine: View = replace(view, observed=("198.51.100.1",))
    its = {"lan": ("192.168.7.2/24",), "observed": ("203.0.113.9",), **changes}
    return mine, replace(db, **its)  # type: ignore[arg-type]  # what a test likes


def test_two_machines_behind_nat_are_told_what_is_in_the_way(view: View, db: Peer) -> None:
    view, db = behind_nat(view, db)
    shown = look(view, db, 142, sent=5000, endpoint="203.0.113.9:51821")
    assert shown["state"] == "failed"
    assert "both behind NAT" in shown["problem"]
    assert "forward UDP port 51821 on the router of peer-2" in shown["next"]
    assert "nmk node set -n home peer-2 endpoint=" in shown["next"]


@pytest.mark.parametrize(
    "changes",
    [
        {"static": "203.0.113.9:51821"},
        {"observed": ("198.51.100.1",)},
        {"lan": ("203.0.113.9/24",)},
        {"lan": ("192.168.7.2/24", "2606:4700::1/64")},
        {"observed": ()},
    ],
)
def test_where_one_of_two_can_be_reached_nat_is_not_blamed(
    view: View, db: Peer, changes: dict[str, object]
) -> None:
    view, db = behind_nat(view, db, **changes)
    shown = look(view, db, 142, sent=5000, endpoint="203.0.113.9:51821")
    assert "NAT" not in shown["problem"]


def test_a_ping_that_nat_is_in_the_way_of(
    view: View, db: Peer, monkeypatch: pytest.MonkeyPatch
) -> None:
    view, db = behind_nat(view, db)
    me = joined(peer(2))
    assert me.known
    me = replace(me, known=replace(me.known, view=view))
    row = look(view, db, 142, sent=5000, endpoint="203.0.113.9:51821")
    monkeypatch.setattr(ping, "_look", lambda *_: row)
    monkeypatch.setattr(ping, "own_lan", lambda _: LAN)
    target = ping.Target(me, db, "10.77.0.2")
    problem, hint = ping._explain_silence(target, Runner(), row, lambda: 0, [])
    assert "both behind NAT" in problem
    assert "UDP port open" not in hint
    assert "endpoint=" in hint


@pytest.mark.parametrize(
    ("changes", "problem", "hint"),
    [
        ({"down": True}, NOT_UP, "nmk up -n home"),
        ({}, NOT_UP, "nmk up -n home"),
        ({}, "peer-2 is not an exit gateway", "nmk set -n home kill-switch=off"),
        ({"down": True}, "peer-2 is not an exit gateway", "nmk set -n home kill-switch=off"),
    ],
)
def test_a_kill_switch_that_is_shut_is_told_with_what_opens_it(
    changes: dict[str, bool], problem: str, hint: str
) -> None:
    wishes = Wishes(settings={"exit-node": "peer-2", "kill-switch": "on"})
    me = replace(joined(peer(2)), wishes=wishes, **changes)  # type: ignore[arg-type]  # flags
    found = find_way_out(me, Routing({}, problem=problem), ())
    assert found.cut_off == CutOff("kill switch", hint)


def test_a_gateway_that_was_given_up_is_silent_whether_there_is_a_session_or_not(
    view: View, db: Peer
) -> None:
    there = LivePeer(TunnelPeer(db.key, (), 25, "192.168.1.2:51821"), 100, 900, 1000)
    for now, problem in ((110, "packets go out to "), (400, "nothing comes back from ")):
        assert describe_peer(db, there, view, LAN, now, {})["state"] != "silent"
        shown = describe_peer(db, there, view, LAN, now, {}, is_silent=True)
        assert (shown["state"], shown["next"]) == ("silent", "nmk ping -n home peer-2")
        assert shown["problem"].startswith(f"{problem}192.168.1.2:51821")
    assert describe_peer(db, None, view, LAN, 0, {}, is_silent=True)["state"] == "off"


STAYS: dict[str, object] = {"leaves": [], "past": [], "hint": None, "lans": []}


def test_status_names_the_lans_that_are_open_and_those_that_stay_shut() -> None:
    lans = [
        {"interface": "eth0", "range": "192.168.1.0/24", "shut": None},
        {"interface": "eth0", "range": "2001:db8:1::/64", "shut": NO_LAN},
    ]
    leaving = {**STAYS, "node": "db", "problem": None, "lans": lans}
    shown = render_status([{**NETWORKS[0], "exit": leaving, "cut_off": None}], "table")
    assert (
        "exit        everything by db\n"
        "lan         192.168.1.0/24 at eth0, beside the exit node\n"
        f"lan         2001:db8:1::/64 at eth0, shut: {NO_LAN}\n"
    ) in shown


def test_an_exit_node_that_the_kernel_passes_by() -> None:
    leaving = {**STAYS, "node": "db", "problem": "IPv4 leaves by tun0", "past": ["tun0"]}
    leaving["hint"] = "ip -4 rule del priority 9 table 7"
    shown = render_status([{**NETWORKS[0], "exit": leaving, "cut_off": None}], "table")
    line = "exit        db is asked for, but IPv4 leaves by tun0"
    assert f"{line}\n  try: ip -4 rule del priority 9 table 7\n" in shown


class Routed(Runner):
    """A machine whose kernel leads packets to some addresses."""

    def __init__(self, ways: dict[str, str]) -> None:
        super().__init__()
        self.ways = ways

    def read(self, argv: Sequence[str]) -> str:
        for start, interface in self.ways.items():
            if argv[4].startswith(start):
                return json.dumps([{"dst": argv[4], "dev": interface}])
        raise CommandFailed("RTNETLINK answers: No such process")


def test_an_exit_node_that_nothing_gets_to() -> None:
    """A family that the network has not is shut, and that is as it should be."""
    found = observe(joined(peer(2)), WayOut("peer-2"), Routed({"2": "nmk-home", "3": "nmk-home"}))
    assert found.problem == "no way for IPv4, as nothing of nmk's leads to peer-2"
    assert found.past == ()
    assert found.hint == "to lay that, or see why not: nmk checkin -n home"
    found = observe(joined(peer(2)), WayOut("peer-2"), Routed({"1": "nmk-home"}))
    assert (found.problem, found.past) == (None, ())


def test_who_lets_nothing_get_to_the_exit_node_is_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    rule: Row = {"priority": 9, "dst": "0.0.0.0", "dstlen": 0, "action": "unreachable"}
    found = observe(joined(peer(2)), WayOut("peer-2"), Cut({"2": "nmk-home"}, (), [rule]))
    named = "priority 9 to 0.0.0.0/0 unreachable"
    assert found.problem == f"no way for IPv4 (rule {named})"
    assert str(found.hint).startswith(f"ip -4 rule del {named}; or end what lays it")
    [told] = gateway.way_out_findings(joined(peer(2)), found)
    assert (told.level, told.mend) == ("broken", found.hint)
    shown = render_status([{**NETWORKS[0], **found.as_json()}], "table")
    assert f"{found.problem}\n  try: {found.hint}\n" in shown
    monkeypatch.setattr("nmk.agent.status.way_out", lambda *_: found)
    tell_cut_off(joined(peer(2)), quiet=False)
    said = f"home: everything by peer-2: {found.problem}\n  try: {found.hint}\n"
    assert capsys.readouterr().err == said


class Shared(Routed):
    """The same, with a LAN of its own."""

    def read(self, argv: Sequence[str]) -> str:
        if "get" in argv:
            return super().read(argv)
        address = {"local": "192.168.7.5", "prefixlen": 24, "scope": "global"}
        lan = {"ifname": "eth0", "addr_info": [address]}
        return json.dumps([lan] if "address" in argv else [])


def test_what_another_program_leads_elsewhere_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """By a rule of its own, which no look at the main table shows."""
    me = joined(peer(2), peer(3))
    ranges = ("192.168.50.0/24", "192.168.7.0/24", "192.168.60.0/24")
    routing = Routing({}, routes=tuple(Route(r, "peer-2") for r in ranges))
    ours = Shared({"10.77.": "nmk-home", "192.168.": "nmk-home"})
    assert find_astray(me, routing, ours) == []
    theirs = Shared({"192.168.50.": "tailscale0", "192.168.60.": "nmk-home"})
    assert [(p.code, p.message) for p in find_astray(me, routing, theirs)] == [
        ("led-elsewhere", "packets to 10.77.0.2 leave by no way, not by nmk-home"),
        ("led-elsewhere", "packets to 192.168.50.0/24 leave by tailscale0, not by nmk-home"),
    ]
    monkeypatch.setattr(checks, "live", lambda *_: ("up", Dump("", "", 1, {})))
    found = checks.check_overlap(me, theirs, {})
    assert [(f.level, f.reason) for f in found] == [
        ("broken", "packets to 10.77.0.2 leave by no way, not by nmk-home")
    ]


class Cut(Routed):
    """A machine on which another program leads parts by routes and rules of its own."""

    def __init__(
        self, ways: dict[str, str], routes: Sequence[Row] = (), rules: Sequence[Row] = ()
    ) -> None:
        super().__init__(ways)
        self.shown = {"route": routes, "rule": rules}

    def read(self, argv: Sequence[str]) -> str:
        if "get" in argv:
            return super().read(argv)
        family = "." if argv[2] == "-4" else ":"
        found = [r for r in self.shown.get(argv[3], ()) if family in r["dst"]]
        asked = argv[-1]
        return json.dumps([r for r in found if asked in {"all", "show", r.get("table", "main")}])


class Bare(Cut):
    """One whose kernel does not tell which route it goes by, as before Linux 4.13."""

    def read(self, argv: Sequence[str]) -> str:
        return "[]" if "fibmatch" in argv else super().read(argv)


def test_parts_of_the_internet_that_go_past_the_exit_node_are_named() -> None:
    led = {"1.0.": "nmk-home", "198.18.": "nmk-home", "64.": "tun0", "203.0.113.": "eth0"}
    lan: Row = {"dst": "192.168.9.0/24", "dev": "eth0"}
    own: Row = {"dst": "203.0.113.7", "dev": "eth0", "type": "local"}
    mesh: Row = {"dst": "8.0.0.0/6", "dev": "nmk-home"}
    theirs: Row = {"dst": "64.0.0.0/2", "dev": "tun0", "table": "77"}
    out = WayOut("peer-2")
    me = replace(joined(peer(2)), wishes=Wishes(settings={"exit-node": "peer-2"}))
    kept = observe(me, out, Cut(led, [lan, own, mesh]))
    assert (kept.problem, kept.past) == (None, ())
    for machine in (
        Cut(led, [lan, own, theirs]),
        Cut(led, [lan], [{"priority": 9, "dst": "64.0.0.0", "dstlen": 2, "table": "77"}]),
    ):
        found = observe(me, out, machine)
        assert (found.problem, found.past) == ("64.0.0.0/2 leaves by tun0", ("tun0",))


def test_an_exit_node_that_nmk_has_left_out_is_nobody_elses_doing() -> None:
    """As where nft refuses the filter: what lays it, or says why not, is another check-in."""
    me = replace(joined(peer(2)), wishes=Wishes(settings={"exit-node": "peer-2"}))
    found = observe(me, WayOut("peer-2"), Bare({"1.0.": "eth0", "198.18.": "eth0"}))
    assert found.problem
    assert "leaves by eth0, as nothing of nmk's leads to peer-2" in found.problem
    assert found.hint == "to lay that, or see why not: nmk checkin -n home"


class Shut(Bare):
    """One with the kill switch in place."""

    def read(self, argv: Sequence[str]) -> str:
        if argv[0] == "nft":
            me = replace(joined(peer(2)), wishes=SHUT)
            return str(desired_when_down(me).ruleset)
        return super().read(argv)


SHUT = Wishes(settings={"exit-node": "peer-2", "kill-switch": "on"})


@pytest.mark.parametrize(
    ("ways", "is_cut"),
    [({"1": "tun9", "2": "tun9", "3": "tun9"}, True), ({"1.": "tun9", "198.": "nmk-home"}, False)],
)
def test_what_is_led_past_the_exit_node_is_said_to_be_cut_off_by_the_kill_switch(
    ways: dict[str, str], *, is_cut: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(filter_, "has_tool", lambda _: True)
    me = replace(joined(peer(2)), wishes=SHUT)
    out = observe(me, WayOut("peer-2"), Shut(ways))
    assert out.problem
    assert out.problem.startswith("IPv4 leaves by tun9")
    assert out.cut_off == (CutOff("kill switch", str(out.hint)) if is_cut else None)
    assert out.problem.endswith(", where the kill switch drops it") == (not is_cut)


def test_an_exit_node_that_was_left_out_says_why_and_what_ends_that(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(filter_, "has_tool", lambda _: True)
    code = CommandFailed.code
    other = Problem(code, "WireGuard takes no endpoint of db: no", "nmk --help")
    why = Problem(code, f"{LEFT_OUT}: net.ipv4.conf.eth0.rp_filter is strict", "loosen it")
    refused = Problem(code, "'nft -f -' ended with 1: no such file", "modprobe nf_tables")
    for first in (why, refused):
        me = replace(joined(peer(2)), wishes=SHUT, problems=(other, first))
        out = observe(me, WayOut("peer-2"), Shut({"1.0.": "eth0", "198.18.": "eth0"}))
        assert out.problem == f"IPv4 leaves by eth0, as {first.message}"
        assert out.cut_off == CutOff("kill switch", first.hint)
        [found] = gateway.way_out_findings(me, out)
        reason = f"{out.problem}, and so the kill switch lets nothing out but to the LAN"
        assert (found.reason, found.mend) == (reason, first.hint)


@pytest.mark.usefixtures("state_dir")
def test_an_exit_node_of_another_network_of_the_machine_is_no_other_vpn() -> None:
    """Each of two networks was given one: the rules of the first come first."""
    me = replace(joined(peer(2)), wishes=SHUT)
    other = replace(joined(peer(3)), network="office", interface="nmk-office")
    state.save(other)
    out = observe(me, WayOut("peer-2"), Bare({"1.0.": "nmk-office", "198.18.": "nmk-office"}))
    said = "IPv4 leaves by nmk-office (office, another network of this machine)"
    assert (out.problem, out.cut_off) == (said, None)
    assert out.hint == (
        "one network has the exit node: nmk set -n office exit-node= or nmk set -n home exit-node="
    )
    away = find_astray(me, Routing({}), Shared({"10.77.": "nmk-office"}))
    assert [p.message.partition(": ")[2] for p in away] == [
        "that is office, another network of this machine"
    ]
    assert [p.hint for p in away] == ["nmk set -n office accept-routes=off; or leave it so"]


RULES: dict[str, Row] = {
    "from 192.168.1.7/32": {"src": "192.168.1.7"},
    "from 192.168.1.0/24": {"src": "192.168.1.0", "srclen": 24},
    "fwmark 0x1": {"fwmark": "0x1"},
    "fwmark 0x80000/0xff0000": {"fwmark": "0x80000", "fwmask": "0xff0000"},
    "uidrange 7-9": {"uid_start": 7, "uid_end": 9},
    "not from 10.0.0.0/8": {"not": None, "src": "10.0.0.0", "srclen": 8},
    "ipproto udp dport 53": {"ipproto": "udp", "dport": 53},
}


@pytest.mark.parametrize("words", RULES)
@pytest.mark.parametrize("switch", ["on", "off"])
def test_rules_for_some_packets_that_lead_past_the_exit_node_are_named(
    words: str, switch: str
) -> None:
    rule = {"priority": 100, "src": "all", "table": "77", **RULES[words]}
    way: Row = {"dst": "default", "gateway": "192.168.1.1", "dev": "eth0", "table": "77"}
    me = replace(joined(peer(2)), wishes=Wishes(settings={**SHUT.settings, "kill-switch": switch}))

    class Ruled(Runner):
        def read(self, argv: Sequence[str]) -> str:
            found = [rule] if argv[3] == "rule" else [way] if argv[-1] == "77" else []
            return json.dumps(found if argv[2] == "-4" else [])

    found = find_picky(me, Routing({}, exit="peer-2"), Ruled())
    named = f"rule priority 100 {words} table 77"
    said = [f"some packets leave by eth0, not by peer-2: {named}"] if switch == "off" else []
    assert [p.message for p in found] == said
    for problem in found:
        assert problem.hint.startswith(f"ip -4 {named.replace('rule', 'rule del', 1)}; or end")
    for change in ({"priority": 32000}, {"fwmark": "0x6e6d6b"}, {"oif": "eth0"}, {"table": "8"}):
        before = dict(rule)
        rule.update(change)
        assert find_picky(me, Routing({}, exit="peer-2"), Ruled()) == []
        rule.clear()
        rule.update(before)
    assert find_picky(me, Routing({}), Ruled()) == []


def test_a_lan_that_another_program_leads_past_the_exit_node_in_our_table_is_named() -> None:
    """One of the main table goes beside it, as it should."""
    me = replace(joined(peer(2)), wishes=Wishes(settings={"exit-node": "peer-2"}))
    led = {"1.0.": "nmk-home", "198.18.": "nmk-home", "10.9.": "eth0"}
    lan: Row = {"dst": "10.9.0.0/16", "dev": "eth0"}
    for routes, past in (([lan], ()), ([{**lan, "table": "7236972"}], ("eth0",))):
        found = observe(me, WayOut("peer-2"), Cut(led, routes))
        assert found.past == past
        assert found.problem == ("10.9.0.0/16 leaves by eth0" if past else None)


def test_parts_of_the_mesh_and_of_ranges_that_go_elsewhere_are_named() -> None:
    me = joined(peer(2), peer(200))
    routing = Routing({}, routes=(Route("192.168.50.0/24", "peer-2"),))
    led = {
        "10.77.0.200": "tun0",
        "10.77.": "nmk-home",
        "192.168.50.129": "tun0",
        "192.168.": "nmk-home",
    }
    theirs: list[Row] = [
        {"dst": "10.77.0.128/25", "dev": "tun0", "table": "77"},
        {"dst": "10.77.0.64/26", "dev": "tun0", "table": "77"},  # nobody has an address in it
        {"dst": "192.168.50.128/25", "dev": "tun0", "table": "77"},
    ]
    assert find_astray(me, routing, Cut(led)) == []
    assert [p.message for p in find_astray(me, routing, Cut(led, theirs))] == [
        "packets to 10.77.0.200 leave by tun0, not by nmk-home",
        "packets to 192.168.50.128/25 leave by tun0, not by nmk-home",
    ]


class InLan(Shared):
    """The same, in which a LAN is what its router says: the whole of a documentation range too."""

    def read(self, argv: Sequence[str]) -> str:
        if "address" not in argv:
            return super().read(argv)
        claim = {"local": "198.51.100.200", "prefixlen": 24, "scope": "global"}
        return json.dumps([{"ifname": "wlan0", "addr_info": [claim]}])


def test_a_lan_that_claims_the_address_of_a_silent_controller_is_named() -> None:
    me = replace(joined(peer(2)), urls=("http://198.51.100.1:50051", "http://192.0.2.1:50051"))
    line = (
        "the controller is silent, and the LAN at wlan0 claims its address: 198.51.100.1 is in "
        "198.51.100.0/24"
    )
    assert [(p.code, p.message) for p in claimed_controllers(me, me.urls, InLan({}))] == [
        ("claimed", line)
    ]
    assert claimed_controllers(me, me.urls, Shared({})) == []
    away = [Visit(url, "cannot be reached") for url in me.urls]
    found = check_claimed(me, away, InLan({}))
    assert [(f.level, f.reason) for f in found] == [("warn", line)]
    assert check_claimed(me, [away[0], Visit(me.urls[1], None)], InLan({})) == []


def test_a_lan_that_claims_the_address_of_a_silent_exit_node_is_named() -> None:
    far = {**peer(2), "observed": ["198.51.100.7"], "lan": ["192.168.1.2/24"]}
    me = replace(joined(far), wishes=Wishes(settings={"exit-node": "peer-2"}))
    silent = {far["id"]}
    [found] = claimed_exit(me, silent, InLan({}))
    assert found.message.startswith("the exit node peer-2 is silent, and the LAN at wlan0 claims")
    assert claimed_exit(me, set(), InLan({})) == []
    near = replace(joined({**far, "lan": ["198.51.100.7/24"]}), wishes=me.wishes)
    assert claimed_exit(near, silent, InLan({})) == []


def test_a_ping_whose_packets_have_no_way_has_failed(monkeypatch: pytest.MonkeyPatch) -> None:
    me = joined(peer(2))
    assert me.known
    [entry] = me.known.view.peers.values()
    monkeypatch.setattr(ping, "live", lambda *_: ("up", None))
    target = ping.Target(me, entry, "10.77.0.2")
    assert ping._find_trouble(target, Routed({}), []) == (
        "packets to it leave by no way, not by the mesh",
        "nmk doctor -n home",
    )


def test_a_family_that_is_off_here_is_no_family_without_a_way(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sysctl, "why_no_ipv6", lambda _: "the kernel has none")
    me = joined(peer(2))
    assert me.known
    six = replace(me.known.view, addresses=("10.77.0.1", "fd00::1"))
    me = replace(me, known=replace(me.known, view=six))
    assert families(me) == {4}
    assert observe(me, WayOut("peer-2"), Routed({"1": "nmk-home"})).problem is None


def test_what_passes_by_may_be_in_any_table() -> None:
    me = replace(joined(peer(2)), wishes=Wishes(settings={"exit-node": "peer-2"}))
    ours: Row = {"dst": "0.0.0.0/0", "dev": "nmk-home", "table": "7236972"}
    found = observe(me, WayOut("peer-2"), Bare({"1.0.": "tun9", "198.18.": "tun9"}, [ours]))
    assert "show table all dev tun9" in str(found.hint)


def test_an_exit_node_that_does_not_answer() -> None:
    leaving = {
        "exit": {**STAYS, "node": "db", "problem": "db does not answer"},
        "cut_off": {"by": "exit node", "next": "nmk set -n home exit-node="},
    }
    shown = render_status([{**NETWORKS[0], **leaving}], "table")
    assert (
        "exit        everything by db: db does not answer\n"
        "cut off     the exit node lets nothing out but to the LAN\n"
        "  try: nmk set -n home exit-node=\n"
    ) in shown


@pytest.mark.usefixtures("state_dir")
@pytest.mark.parametrize("wish", ["on", "off"])
@pytest.mark.parametrize("there", ["", "table inet nmk-home {\n\tchain guard-input {\n\t}\n}\n"])
def test_a_kill_switch_that_is_gone_is_told_though_the_exit_node_works(
    monkeypatch: pytest.MonkeyPatch, wish: str, there: str
) -> None:
    monkeypatch.setattr("nmk.agent.surroundings.packet_filter.listing", lambda *_: there)
    settings = {"exit-node": "peer-2", "kill-switch": wish}
    me = replace(joined(peer(2)), wishes=Wishes(settings=settings))
    out = observe(me, WayOut("peer-2"), Routed({"1": "nmk-home", "2": "nmk-home"})).as_json()
    shown = render_status([{**NETWORKS[0], **out}], "table")
    lines = (
        "open        the kill switch is not laid: what does not go by the exit node leaves openly\n"
        "  try: nmk checkin -n home\n"
    )
    assert (lines in shown) == (wish == "on")
    assert (out["kill_switch"] or {}).get("laid") == (False if wish == "on" else None)


def test_a_gateway_that_lacks_something_for_one_of_its_roles() -> None:
    obstacle = "the interface that it shall route by, eth9, is not there"
    shown = render_status([{**NETWORKS[0], "obstacle": obstacle}], "table")
    assert f"gateway     ingress, egress; {obstacle}\n" in shown


@pytest.mark.parametrize(
    ("kind", "endpoint", "why"),
    [
        ("lan", "192.168.1.9:1", "in a subnet of ours"),
        ("lan", "[2001:db8::1]:1", "an address of its own"),
        ("static", "192.168.1.9:1", "pinned"),
        ("observed", "198.51.100.1:1", "where the controller sees it"),
        (None, None, None),
    ],
)
def test_why(kind: str | None, endpoint: str | None, why: str | None) -> None:
    assert explain(kind, endpoint, LAN) == why


def test_watching_ends_with_ctrl_c(capsys: pytest.CaptureFixture[str]) -> None:
    shown = iter(["one", "two", "three"])
    waits = []

    def wait(seconds: float) -> None:
        waits.append(seconds)
        if len(waits) == 2:
            raise KeyboardInterrupt

    watch(lambda: next(shown), wait)
    assert capsys.readouterr().out == "one\ntwo\n"
    assert waits == [2, 2]


def test_watching_on_a_terminal_redraws(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", "5")
    monkeypatch.setenv("LINES", "3")

    def stop(_: float) -> None:
        raise KeyboardInterrupt

    watch(lambda: "1234567\nb\nc\nd", stop)
    assert capsys.readouterr().out == "\x1b[2J\x1b[H12345\x1b[K\nb\x1b[K\n\x1b[J"


def test_a_controller_is_not_asked_at_every_redraw() -> None:
    asked: list[str] = []
    clock = 0.0

    def ask(url: str) -> bool:
        asked.append(url)
        return True

    reachable = remembered(ask, 30, lambda: clock)
    assert [reachable("a"), reachable("a"), reachable("b")] == [True] * 3
    assert asked == ["a", "b"]
    clock = 30.0
    reachable("a")
    assert asked == ["a", "b", "a"]


@pytest.mark.parametrize(
    ("seconds", "shown"), [(0, "0s"), (119, "119s"), (120, "2m"), (7200, "2h"), (200_000, "2d")]
)
def test_an_age(seconds: int, shown: str) -> None:
    assert show_age(seconds) == shown
    assert show_ago(seconds) == f"{shown} ago"
    assert show_ago(None) == "never"


@pytest.mark.parametrize(
    ("count", "shown"), [(0, "0 B"), (1023, "1023 B"), (1024, "1.0 KiB"), (5 * 2**50, "5120.0 TiB")]
)
def test_an_amount(count: int, shown: str) -> None:
    assert show_bytes(count) == shown
