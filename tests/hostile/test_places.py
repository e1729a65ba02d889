"""A member says that its machine is where none can be; the others are none the worse."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from nmk.agent import state
from nmk.core.tunnel import Own, compile_tunnel
from nmk.server.agents import _observe
from tests.agent.controllers import RealController
from tests.hostile.liar import Victim
from tests.hostile.stranger import Stranger

NOWHERE = ("224.0.0.5/24", "0.0.0.0/0", "127.0.0.1/8", "ff0e::1/64", "::ffff:10.0.0.1/128")


@pytest.fixture
def controller(tmp_path: Path) -> Iterator[RealController]:
    (tmp_path / "controller").mkdir()
    with RealController(tmp_path / "controller") as made:
        yield made


@pytest.mark.usefixtures("state_dir")
@pytest.mark.parametrize("nowhere", NOWHERE)
def test_a_member_that_is_nowhere_takes_no_machine_off(
    controller: RealController, nowhere: str
) -> None:
    victim = Victim(controller.token())
    member = Stranger(controller.url).member(controller.token(), "evil")
    member.facts = replace(member.facts, lan=(nowhere, "10.1.1.7/24"))
    member.check_in(report=True)
    me = victim.check_in()
    assert me.known
    [other] = me.known.view.peers.values()
    assert other.lan == ("10.1.1.7/24",)
    own = Own(me.interface, me.private_key, me.listen_port, ("192.168.1.1/24",))
    peers = compile_tunnel(me.known.view, own, {}).peers.values()
    me = replace(me, endpoints={p.key: p.endpoint for p in peers if p.endpoint})
    state.save(me)
    assert state.load("home") == me


@pytest.mark.parametrize("nowhere", NOWHERE)
def test_nobody_is_seen_where_none_can_be(nowhere: str) -> None:
    assert _observe(("198.51.100.7",), nowhere.partition("/")[0]) == ("198.51.100.7",)
