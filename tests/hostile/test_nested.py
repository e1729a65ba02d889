"""Values nested so deep that Python just reads them: each side refuses them, and goes on."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from click.testing import CliRunner
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nmk.agent import daemon, last_check_in, state
from nmk.agent.exchange import check_in
from nmk.agent.membership import Membership
from nmk.cli import machine
from nmk.cli.output import expect_json
from nmk.core.view import pack
from nmk.errors import BadInput, NmkError
from nmk.files import read_toml
from nmk.wire.envelope import Kind
from tests.agent.memberships import peer
from tests.agent.test_bad_day import Noting
from tests.hostile.anything import DEEP, DEPTHS, changed, nested, with_deep
from tests.hostile.door import Reply
from tests.hostile.liar import Json, Liar, Request
from tests.hostile.stranger import Stranger, forged
from tests.hostile.test_fuzz_http import ROUTES, ask, post, state_of
from tests.lab import poll
from tests.reliability.served import Served
from tests.server.agent import Agent

driven = settings(max_examples=80, database=None, suppress_health_check=list(HealthCheck))
SIGNS = st.sampled_from(["[", "{", "[{"])
PLACES = st.integers(0, 500)


def answer_with(deep: Json, depth: int, signs: str = "[") -> Any:
    """A lie: that answer, under seal."""

    def lie(request: Request, honest: Json) -> Json | Reply:
        if request.kind is not Kind.CHECK_IN:
            return honest
        return request.sealed(pack(with_deep({**honest, **deep}, depth, signs)))

    return lie


def idle(liar: Liar, network: str) -> Membership:
    """A machine that has joined, and whose interface is down."""
    victim = liar.victim(f"victim-{network}")
    return replace(victim.check_in(), network=network, interface=f"none-{network}", down=True)


# Controller -> node


def test_a_controller_that_nests_deep_gets_one_clear_error(liar: Liar) -> None:
    victim, whole = liar.victim(), list[Json]()
    Stranger(liar.url).member(liar.token(), "other")

    def note(_: Request, honest: Json) -> Json:
        whole.append(honest)
        return honest

    liar.lie = note
    victim.check_in()
    sound = victim.me
    [other] = (p for block in whole[0]["peers"] for p in block if p["name"] == "other")
    other["gateway"] = {
        "egress": {"ranges": ["192.168.7.0/24"], "nat": "auto", "interface": None, "metric": 5}
    }

    @driven
    @given(depth=DEPTHS, signs=SIGNS, place=PLACES, full=st.booleans())
    def attack(depth: int, signs: str, place: int, *, full: bool) -> None:
        def lie(request: Request, honest: Json) -> Json | Reply:
            text = {**(whole[0] if full else honest), "copies": ["192.0.2.1"]}
            return request.sealed(pack(with_deep(changed(text, [(place, DEEP)]), depth, signs)))

        liar.lie = lie
        victim.me = sound
        with pytest.raises(NmkError) as raised:
            victim.check_in()
        assert raised.value.code in {"bad-view", "bad-reply"}
        assert len(raised.value.message) < 400
        liar.asked.clear()

    attack()


def test_a_network_whose_controller_nests_deep_is_one_failed_check_in(
    liar: Liar, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At whatever depth: just where Python reads it depends on who asks."""
    monkeypatch.setattr(machine, "check_root", lambda _: None)
    monkeypatch.setattr(machine, "runner", lambda *_, **__: Noting())
    expect_json([])  # which another test may have asked for
    state.save(idle(liar, "home"))
    egress = {"ranges": DEEP, "nat": "auto", "interface": None, "metric": 5}
    told = {"peers": [[{**peer(2), "gateway": {"egress": egress}}]]}
    for depth in range(940, 1000):
        liar.lie = answer_with(told, depth)
        done = CliRunner().invoke(machine.checkin, [], standalone_mode=False)
        assert done.exception is None, depth
        assert done.output.startswith("nmk: home: "), depth
        assert "internal error" not in done.output, depth


def test_the_agent_outlives_what_nobody_has_foreseen(
    liar: Liar, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of one network it is said once, and shown; the others go on."""
    said = list[str]()
    state.save(idle(liar, "other"))
    state.save(idle(liar, "home"))

    def fail(me: Any, *args: Any, **more: Any) -> Any:
        if me.network == "home":
            raise RecursionError("maximum recursion depth exceeded")
        return check_in(me, *args, **more)

    monkeypatch.setattr("nmk.agent.tick.check_in", fail)
    agent = daemon.Agent(Noting(), said.append)

    def turned() -> bool:
        for turn in agent._turns.values():
            turn.due = 0.0
        agent._check_in_due()
        agent._finish_answered()
        return agent._turns["home"].failures >= 3 and len(liar.asked) > 5

    poll(turned, 20, "three check-ins")
    about = [line for line in said if line.startswith("home: ")]
    assert len(about) == 1
    assert "RecursionError('maximum" in about[0]
    health = last_check_in.load("home", state.load("home"))
    assert health.failure
    assert health.failure.problem.code == "internal-error"
    assert "RecursionError" in health.failure.problem.message


@pytest.mark.parametrize("what", ["begin", "shut_network", "put_right", "mend_network"])
def test_no_step_of_one_network_ends_the_agent(
    what: str, liar: Liar, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = list[str]()
    state.save(idle(liar, "home"))

    def fail(*_: object, **__: object) -> None:
        raise ZeroDivisionError(what)

    where = "nmk.agent.tick._begin" if what == "begin" else f"nmk.agent.daemon.{what}"
    monkeypatch.setattr(where, fail)
    agent = daemon.Agent(Noting(), said.append)
    monkeypatch.setattr(agent, "_loop", lambda *_: agent._check_in_due())
    agent.serve()
    agent._turns["home"].look = 0.0
    agent._check_in_due()
    assert any(f"ZeroDivisionError('{what}')" in line for line in said), said


# Node -> controller


@pytest.fixture(scope="module")
def member(served: Served) -> Agent:
    return Stranger(served.url).member(served.token(), "member")


@driven
@given(depth=DEPTHS, signs=SIGNS, place=PLACES, kind=st.sampled_from([Kind.JOIN, Kind.CHECK_IN]))
def test_a_member_that_nests_deep_changes_nothing(
    served: Served, member: Agent, depth: int, signs: str, place: int, kind: Kind
) -> None:
    facts = {"wg_key": member.facts.wg_key, "listen_port": 51821, "lan": ["192.168.1.7/24"]}
    facts |= {"interval": 60, "endpoint": None, "instance": "x", "protocol": 2}
    said: dict[Kind, Any] = {
        Kind.JOIN: {"key": "x", "secret": "x", "name": "x", "host": "h", "facts": facts},
        Kind.CHECK_IN: {"at": [0, ""], "seq": 99, "facts": facts, "health": "", "traffic": ""},
    }
    body = with_deep(changed(said[kind], [(place, DEEP)]), depth, signs)
    before = state_of(served)
    assert post(served, *forged(member.token, kind, body, member.identity)) in {200, 429}
    assert state_of(served) == before


@driven
@given(depth=DEPTHS, signs=SIGNS, place=PLACES, route=st.sampled_from(ROUTES))
@pytest.mark.usefixtures("member")
def test_an_admin_that_nests_deep_is_refused(
    served: Served, depth: int, signs: str, place: int, route: tuple[str, str, dict[str, object]]
) -> None:
    method, path, right = route
    body = with_deep(changed({**right, "more": 1}, [(place, DEEP)]), depth, signs)
    status, told = ask(served, method, f"/v1/{path}?dry-run=true", body, {})
    assert 400 <= status < 500, told
    assert json.loads(told)["code"]


# Files


@driven
@given(depth=DEPTHS)
def test_a_settings_file_that_nests_deep_is_refused(tmp_path_factory: Any, depth: int) -> None:
    path = tmp_path_factory.mktemp("settings") / "home.toml"
    path.write_text(f"mtu = {nested('1', depth)}\n")
    with pytest.raises(BadInput, match=r"nested|TOML"):
        read_toml(path)
