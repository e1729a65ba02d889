"""What a machine says of itself: whole names, the right doer, what waits for what."""

from __future__ import annotations

import json
import time
from dataclasses import asdict, replace

import pytest

from nmk.agent import history, last_check_in, service, state, status
from nmk.agent.checks import controller, network
from nmk.agent.checks.peers import check_peers
from nmk.agent.exits import WAITS, find_way_out
from nmk.agent.membership import Membership
from nmk.agent.peer_status import UNHEARD, bear_with, describe_peers
from nmk.agent.reach import Visit
from nmk.cli import machine, wishes
from nmk.cli.machine_status import render_status
from nmk.core.problems import problem_of
from nmk.core.routes import Routing
from nmk.core.tunnel import Tunnel, TunnelPeer
from nmk.errors import NmkError, RangesRefused, Unreachable
from nmk.system import starters
from nmk.system.dump import Dump, LivePeer
from nmk.system.runner import Runner
from tests.agent.memberships import joined, joining, peer
from tests.cli.inprocess import nmk

URLS = ("http://192.0.2.1:50051", "http://[2001:db8::1]:50051")


@pytest.mark.usefixtures("state_dir")
def test_doctor_names_peers_and_not_their_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    me = joined(peer(2))
    state.save(me)
    there = Tunnel(me.interface, me.private_key, me.listen_port, 1420, (), {})
    monkeypatch.setattr(network, "live", lambda *_: ("up", None))
    monkeypatch.setattr(network, "find_doubles", lambda *_: ())
    monkeypatch.setattr("nmk.system.wireguard.probe", lambda *_: there)
    [found] = network.check_interface(me, Runner(), {})
    assert "add peer peer-2 (10.77.0.2/32)" in found.reason
    assert me.known
    assert all(other.key not in found.reason for other in me.known.view.others)


@pytest.mark.parametrize(
    ("urls", "told"),
    [(URLS[:1], f"{URLS[0]} answers"), (URLS, f"{URLS[0]}, {URLS[1]} answer")],
)
def test_one_answers_two_answer(urls: tuple[str, ...], told: str) -> None:
    [found] = controller.check_controller(joined(), [Visit(url, None) for url in urls])
    assert found.reason == told


@pytest.mark.parametrize(
    ("manager", "told"),
    [("cron", " cron keeps it up to date."), ("systemd", " The agent keeps it up to date.")],
)
def test_a_join_says_who_keeps_the_machine_up_to_date(
    monkeypatch: pytest.MonkeyPatch, manager: str, told: str
) -> None:
    kept = {"installed": True, "manager": manager}
    monkeypatch.setattr(service, "status", lambda *_: kept)
    monkeypatch.setattr(service, "idle_cron", lambda _: None)
    monkeypatch.setattr(starters, "agent_runs", lambda: False)
    assert told in machine.next_steps(joined())


@pytest.mark.usefixtures("state_dir")
@pytest.mark.parametrize(
    ("error", "told", "hint"),
    [
        (None, "the join was cut short", "nmk join -"),
        (Unreachable("no answer"), "the join failed: no answer", "nmk join -"),
        (
            RangesRefused("it is refused", "nmk leave"),
            "the join failed: it is refused",
            "nmk leave",
        ),
    ],
)
def test_why_a_join_did_not_come_to_its_end_is_told(
    error: NmkError | None, told: str, hint: str
) -> None:
    state.save(joining())
    if error:
        last_check_in.failed("home", problem_of(error))
    row = status.status("home", Runner(), time.time(), reachable=lambda _: True)
    assert (row["problem"], row["next"]) == (told, hint)
    assert f"warning     {told}\n  try: {hint}\n" in render_status([row], "table") + "\n"
    [found] = network.check_interface(joining(), Runner(), {})
    assert (found.reason, found.mend) == (f"nmk-home: {told}", hint)


@pytest.mark.usefixtures("state_dir")
@pytest.mark.parametrize(
    ("joined_ago", "condition"), [(20, "trying"), (85, "trying"), (200, "failed"), (None, "failed")]
)
def test_peers_that_have_not_heard_of_a_newcomer_are_not_said_to_be_silent(
    joined_ago: int | None, condition: str
) -> None:
    me, now = joined(peer(2)), time.time()
    state.save(me)
    if joined_ago is not None:
        entry = history.Entry(int(now) - joined_ago, "join", 7, ())
        history.file_of("home").write_text(json.dumps(asdict(entry)))
    assert me.known
    view = me.known.view
    [other] = view.others
    there = LivePeer(TunnelPeer(other.key, (), 25, "192.168.1.2:51821"), 0, 0, 1000)
    dump = Dump("", "", 1, {other.key: there})
    rows = bear_with(describe_peers(view, dump, ("192.168.1.1/24",), now, {}), me, now)
    assert [row["state"] for row in rows] == [condition]
    assert (rows[0]["problem"] == UNHEARD) == (condition == "trying")
    assert [f.level for f in check_peers("home", rows)] == [
        "ok" if condition == "trying" else "broken"
    ]


@pytest.mark.usefixtures("state_dir")
@pytest.mark.parametrize("exit_node", ["", "peer-2"])
def test_a_kill_switch_that_waits_for_an_exit_node_is_said(
    monkeypatch: pytest.MonkeyPatch, exit_node: str
) -> None:
    me = joined(peer(2))
    settings = {"kill-switch": "on"} | ({"exit-node": exit_node} if exit_node else {})
    me = replace(me, wishes=replace(me.wishes, settings=settings), as_read={})
    state.save(me)

    def noted(*_: object) -> Membership:
        return me

    monkeypatch.setattr("nmk.agent.wishes.note", noted)
    monkeypatch.setattr(wishes, "check_root", lambda _: None)
    monkeypatch.setattr(wishes, "tell_cut_off", lambda *_, **__: None)
    assert (find_way_out(me, Routing({}), ()).problem == WAITS) == (not exit_node)
    waits = "shuts nothing before there is an exit node\n  next: nmk set -n home exit-node=NODE\n"
    assert (waits in nmk("set", "kill-switch=on").err) == (not exit_node)
