"""What a machine says of itself: whole names, the right doer, what waits for what."""

from __future__ import annotations

from dataclasses import replace

import pytest

from nmk.agent import service, state
from nmk.agent.checks import controller, network
from nmk.agent.membership import Membership
from nmk.agent.reach import Visit
from nmk.cli import machine, wishes
from nmk.core.tunnel import Tunnel
from nmk.system.runner import Runner
from tests.agent.memberships import joined, peer
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
    assert told in machine.next_steps(joined())


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
    waits = "shuts nothing before there is an exit node\n  next: nmk set -n home exit-node=NODE\n"
    assert (waits in nmk("set", "kill-switch=on").err) == (not exit_node)
