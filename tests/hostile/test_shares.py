"""What one of many may have of a controller: nobody's share is spent by another."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from nmk.server.agents import REPORT_BURST
from nmk.server.limits import RECORDABLE_BURST
from nmk.store.store import describe_change
from nmk.wire.envelope import Identity, Kind
from tests.agent.controllers import RealController
from tests.core.made import made_node
from tests.hostile.liar import Victim
from tests.hostile.stranger import Stranger, Unsealed, forged
from tests.server.agent import Agent, Refused
from tests.server.inside import Time

LONG = 400  # bytes; "unchanged" and an error are shorter


@pytest.fixture
def time() -> Time:
    return Time()


@pytest.fixture
def controller(tmp_path: Path, time: Time) -> Iterator[RealController]:
    (tmp_path / "controller").mkdir()
    with RealController(tmp_path / "controller", clock=time.clock) as made:
        yield made


@pytest.fixture
def stranger(controller: RealController) -> Stranger:
    return Stranger(controller.url)


def revision(controller: RealController) -> int:
    return controller.core.meshes["home"].revision


def reports(agent: Agent, number: int) -> list[str]:
    """What becomes of so many reports in a row."""
    codes = []
    for port in range(1, number + 1):
        agent.facts = replace(agent.facts, listen_port=port)
        try:
            agent.check_in(report=True)
            codes.append("taken in")
        except Refused as refusal:
            agent.seq -= 1
            codes.append(refusal.code)
    return codes


# Reports


def test_one_node_causes_so_many_commits_and_others_go_on(
    controller: RealController, stranger: Stranger, time: Time
) -> None:
    hostile, other, behind = (stranger.member(controller.token(), name) for name in "abc")
    assert behind.check_in()["full"] is True
    before = revision(controller)
    told = reports(hostile, 300)
    assert told == ["taken in"] * int(REPORT_BURST) + ["rate-limited"] * (300 - int(REPORT_BURST))
    assert revision(controller) - before == REPORT_BURST
    assert other.check_in()["full"] is True
    delta = behind.check_in()  # the log reaches back to where it stands
    assert not delta["full"]
    assert [[peer["name"] for peer in part] for part in delta["peers"]] == [["a"]]
    assert hostile.check_in()["at"]  # it is served as ever, but for that
    assert reports(other, 5) == ["taken in"] * 5
    time.now += 600
    assert reports(hostile, 20).count("taken in") == 10


def test_reports_that_are_played_again_cost_their_node_nothing(
    controller: RealController, stranger: Stranger
) -> None:
    member = stranger.member(controller.token())
    reports(member, 1)
    recorded = member.sent[-1]
    for _ in range(2 * int(REPORT_BURST)):
        stranger.at("127.0.0.66").post(*recorded)
    assert reports(member, 5) == ["taken in"] * 5


@pytest.mark.usefixtures("state_dir")
def test_an_agent_reports_what_was_not_taken_in_later(
    controller: RealController, stranger: Stranger, time: Time
) -> None:
    """And has its view all the same. An agent of 0.2.0 fails this once, and tries again."""
    victim = Victim(controller.token())
    for port in range(1, int(REPORT_BURST) + 2):
        victim.check_in(replace(victim.facts, listen_port=port))
    stranger.member(controller.token(), "new")
    last = replace(victim.facts, listen_port=5000)
    victim.check_in(last)
    assert victim.me.known
    assert [p.name for p in victim.me.known.view.peers.values()] == ["new"]
    assert controller.admin.show_node("home", "victim")["listen_port"] == REPORT_BURST
    time.now += 60
    victim.check_in(last)
    assert controller.admin.show_node("home", "victim")["listen_port"] == 5000
    assert victim.me.reported == last


def test_the_log_holds_what_changed_and_not_more() -> None:
    before = made_node(1)
    facts = replace(before.facts, lan=tuple(f"192.168.{n}.7/24" for n in range(64)))
    [change] = json.loads(describe_change([(before, replace(before, facts=facts, seq=9))]))
    assert change["after"].keys() == change["before"].keys() == {"lan", "seq"}
    assert (change["table"], change["key"]) == ("nodes", before.identity)
    assert len(json.dumps(change)) < 800
    [made] = json.loads(describe_change([(None, before)]))
    assert (made["before"], made["after"]["name"]) == (None, before.name)


# Long replies


def test_a_recorded_request_is_answered_at_length_once(
    controller: RealController, stranger: Stranger
) -> None:
    member = stranger.member(controller.token())
    member.check_in()  # of an agent that has nothing yet: the whole view
    recorded = member.sent[-1]
    sizes = [len(stranger.at("127.0.0.66").post(*recorded).body) for _ in range(50)]
    assert max(sizes) < LONG


def test_many_recordings_are_no_way_to_keep_a_node_from_its_view(
    controller: RealController, stranger: Stranger
) -> None:
    """They use up what is given without a question; who made them can answer one."""
    member = stranger.member(controller.token())
    recorded = [member.sealed(Kind.CHECK_IN, b'{"at":[0,""]}')[1] for _ in range(100)]
    sizes = [len(stranger.at("127.0.0.66").post("/v1/checkin", m).body) for m in recorded]
    assert len([size for size in sizes if size > LONG]) <= RECORDABLE_BURST
    with pytest.raises(Refused) as raised:
        member.check_in()
    cookie = raised.value.data["cookie"]
    assert member.say(Kind.CHECK_IN, {"at": [0, ""], "cookie": cookie})["full"] is True
    with pytest.raises(Refused):
        member.say(Kind.CHECK_IN, {"at": [0, ""], "cookie": cookie})


@pytest.mark.usefixtures("state_dir")
def test_an_agent_answers_the_question_by_itself(controller: RealController) -> None:
    victim = Victim(controller.token())
    for asked in (1, 1, 1, 2, 2):
        victim.me = replace(victim.me, known=None)
        before = len(controller.requests)
        assert victim.check_in().known
        assert len(controller.requests) - before == asked


def test_a_join_that_was_recorded_is_answered_at_length_once(
    controller: RealController, stranger: Stranger
) -> None:
    member = stranger.member(controller.token())
    recorded = member.sent[0]
    sizes = {len(stranger.at("127.0.0.66").post(*recorded).body) for _ in range(20)}
    assert len(sizes) == 1
    assert max(sizes) < LONG
    assert member.join()["again"] is True  # the same machine with a request of its own


def test_all_nodes_get_their_view_after_a_restart(
    controller: RealController, stranger: Stranger
) -> None:
    """All at once: each has a share of its own."""
    nodes = [stranger.member(controller.token()) for _ in range(100)]
    for node in nodes:
        node.at = ("00" * 8, 0, "")
    assert all(node.check_in()["full"] is True for node in nodes)


# Addresses


def test_who_has_a_key_joins_from_an_address_that_another_floods(
    controller: RealController, stranger: Stranger
) -> None:
    """Garbage, keys that are none, identities that are none: all refused, none at the cost."""
    token = controller.token()
    wrong = replace(token, secret=bytes(32))
    made_up = Agent(stranger.ask, wrong)
    for number in range(400):
        stranger.post("/v1/join", bytes([number % 256]) * 300)
        stranger.post(*forged(token, Kind.CHECK_IN, identity=Identity.generate()))
        if number < 350:
            with pytest.raises((Refused, Unsealed)):
                made_up.join()
    assert stranger.post(*forged(token, Kind.CHECK_IN)).status == 429
    assert stranger.member(token, "honest").check_in()["full"] is True


def test_one_key_lets_in_so_many_at_once(
    controller: RealController, stranger: Stranger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(controller.agents._joins, "_burst", 3)
    token, other = controller.token(uses=100), controller.token()
    for _ in range(3):
        stranger.member(token)
    with pytest.raises(Refused) as raised:
        stranger.member(token)
    assert raised.value.code == "rate-limited"
    assert stranger.member(other).check_in()["full"] is True


def test_a_join_that_is_too_long_is_not_opened(controller: RealController) -> None:
    stranger = Stranger(controller.url)
    assert stranger.post("/v1/join", bytes(16 * 1024 + 1)).status == 413


def test_a_deleted_machine_hears_of_it_at_an_address_that_another_floods(
    controller: RealController, stranger: Stranger
) -> None:
    member = stranger.member(controller.token(), "gone")
    controller.admin.delete_node(controller.edit, "home", "gone")
    while stranger.post(*forged(member.token, Kind.CHECK_IN)).status == 200:
        pass
    with pytest.raises(Refused) as raised:
        member.check_in()
    assert raised.value.code == "node-deleted"
