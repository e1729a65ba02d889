"""A leave that was held back, and is delivered when the machine has long gone on."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from nmk.agent import leave, state
from nmk.errors import BadReply, BadView, Unreachable
from nmk.system.runner import Runner
from nmk.wire.envelope import Kind
from tests.hostile.liar import Json, Liar, Request
from tests.hostile.middlebox import Middlebox, drop
from tests.hostile.stranger import Stranger
from tests.reliability.served import Served, serving_home
from tests.server.agent import Agent, Refused, new_facts


def test_one_that_was_held_back_is_no_news_any_more(served: Served) -> None:
    member = Stranger(served.url).member(served.token(), "held-back")
    member.seq += 1
    header, held = member.sealed(Kind.LEAVE, b'{"seq": %d}' % member.seq)
    member.check_in(report=True)
    with pytest.raises(Refused) as raised:
        member.opened(header, member.post("/v1/leave", held))
    assert (raised.value.code, raised.value.data["seq"]) == ("stale-sequence", member.seq)
    assert "held-back" in served.nodes()
    member.leave()
    assert "held-back" not in served.nodes()


def old(served: Served, name: str) -> Agent:
    """A node whose agent is of nmk 0.2.0."""
    agent = Agent(Stranger(served.url).ask, served.token(), facts=replace(new_facts(), protocol=1))
    agent.join(name)
    return agent


def test_one_without_a_number_is_taken_from_an_old_agent(served: Served) -> None:
    agent = old(served, "old")
    agent.check_in(report=True)
    agent.say(Kind.LEAVE, {})
    assert "old" not in served.nodes()


def test_one_without_a_number_is_never_taken_from_who_can_number_it(tmp_path: Path) -> None:
    with serving_home(tmp_path) as served:
        agent = old(served, "risen")
        header, held = agent.sealed(Kind.LEAVE, b"{}")
        agent.facts = replace(agent.facts, protocol=2)
        agent.check_in(report=True)
        agent.facts = replace(agent.facts, protocol=1)
        agent.check_in(report=True)  # back at 0.2.0, which the controller does not forget
        served.stop()
        served.start()
        with pytest.raises(Refused) as raised:
            agent.opened(header, agent.post("/v1/leave", held))
        assert raised.value.code == "stale-sequence"
        assert "risen" in served.nodes()


def test_a_machine_that_could_not_leave_makes_its_leave_old(liar: Liar) -> None:
    """The agent's own code: its next check-in is a report with a higher number."""
    victim = liar.victim()
    with Middlebox(liar.url, drop) as middle:
        before = liar.url
        state.save(replace(victim.check_in(), urls=(middle.url,)))
        with pytest.raises(Unreachable):
            leave.leave("home", Runner(), print)
        held = middle.asked[-1].body
        victim.me = replace(state.load("home"), urls=(before,))
    victim.check_in()
    assert Stranger(liar.url).post("/v1/leave", held).status == 200
    assert [n["name"] for n in liar.admin.list_nodes("home")] == ["victim"]


def test_an_agent_leaves_by_the_number_after_the_last_one(liar: Liar) -> None:
    """Its disk was put back: the number that it would give was used."""
    victim = liar.victim()
    victim.check_in(replace(victim.facts, listen_port=4))
    victim.me = replace(victim.me, seq=0)
    leave._send(replace(victim.me, seq=1))
    assert liar.admin.list_nodes("home") == []


def test_a_machine_whose_numbers_were_used_up_comes_back(liar: Liar) -> None:
    """By a controller that lied before the machine knew better: the honest one tells it where."""
    victim = liar.victim()
    victim.check_in()
    before = victim.me.seq
    victim.me = replace(victim.me, seq=2**53 - 1)
    victim.check_in(replace(victim.facts, listen_port=5))
    assert before < victim.me.seq < 10
    leave._send(replace(victim.me, seq=2**53 - 1))
    assert liar.admin.list_nodes("home") == []


@pytest.mark.parametrize("said", [2**53 - 1, 20_000_000])
def test_no_number_that_a_controller_makes_up_uses_up_the_machines(liar: Liar, said: int) -> None:
    """Said once, in an error or in a view; the honest controller takes in what comes after."""
    victim = liar.victim()
    victim.check_in()
    lies = iter(["error", "view"])

    def lie(request: Request, answer: Json) -> Json | bytes:
        match next(lies, ""):
            case "error":
                return request.error("stale-sequence", seq=said)
            case "view":
                return {**answer, "self": {**answer["self"], "seq": said}}
        return answer

    liar.lie = lie
    with pytest.raises(BadReply, match=str(said)):
        victim.check_in(replace(victim.facts, listen_port=5))
    victim.me = replace(victim.me, known=None)  # asks for a full view
    with pytest.raises(BadView, match=str(said)):
        victim.check_in(replace(victim.facts, listen_port=5))
    victim.check_in(replace(victim.facts, listen_port=6))
    assert victim.me.seq < 10
    leave._send(replace(victim.me, seq=victim.me.seq + 1))
    assert liar.admin.list_nodes("home") == []
