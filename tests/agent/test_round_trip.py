"""Whatever a controller tells a machine: what is written of it can be read again."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from nmk.agent import state
from nmk.agent.membership import decode, encode
from nmk.core.parse import parse_endpoint
from nmk.errors import BadInput, StateUnwritable
from nmk.wire.messages import parse_facts
from tests.agent.memberships import joined, peer
from tests.core.made import Json, key32, made_mesh, made_node, made_view
from tests.hostile.anything import changed, changes
from tests.hostile.views import LANS, ODD, STATIC, VIEWS, WHOLE, taken_in


@settings(deadline=None, max_examples=300)
@given(VIEWS, st.sampled_from([(), ("192.168.1.1/24", "2001:db8::1/64")]))
@example(WHOLE, ())
def test_any_view_that_is_taken_in_can_be_read_again(view: Json, lan: tuple[str, ...]) -> None:
    me = taken_in(view, lan)
    if me:
        assert decode(encode(me), "home", "home.json") == me


def test_the_view_that_the_others_are_made_from_is_taken_in() -> None:
    me = taken_in(WHOLE)
    assert me
    assert me.known
    assert len(me.known.view.others) == 6


@pytest.mark.parametrize("odd", ODD)
def test_a_state_with_such_an_endpoint_is_read_again(odd: str) -> None:
    """As nmk before this one wrote them."""
    good = joined(peer(2), peer(3))
    assert good.known
    first, second = good.known.view.peers.values()
    data = json.loads(encode(good))
    address = odd.partition("/")[0]
    endpoint = f"[{address}]:51821" if ":" in address else f"{address}:51821"
    data["endpoints"] = {first.key: endpoint, second.key: "192.168.1.3:51821"}
    data["known"]["view"]["peers"][first.id] |= {"lan": [odd, "192.168.1.2/24"]}
    read = decode(json.dumps(data).encode(), "home", "home.json")
    assert read.known
    assert read.endpoints[second.key] == "192.168.1.3:51821"
    assert all(parse_endpoint(e) == e for e in read.endpoints.values())
    if "240." not in odd:
        assert read.known.view.peers[first.id].lan == ("192.168.1.2/24",)


@pytest.mark.parametrize("bad", [{"x": "192.0.2.1:1"}, {key32(4): "x"}, {key32(4): "1.2.3.4"}])
def test_an_endpoint_that_makes_no_sense_is_forgotten(bad: dict[str, str]) -> None:
    data = json.loads(encode(joined(peer(2)))) | {"endpoints": bad}
    assert decode(json.dumps(data).encode(), "home", "home.json").endpoints == {}


FACTS = {
    "wg_key": key32(2),
    "listen_port": 51821,
    "lan": ["192.168.1.7/24"],
    "interval": 60,
    "endpoint": None,
    "instance": "",
    "protocol": 3,
}


@settings(deadline=None)
@given(
    st.fixed_dictionaries({"lan": LANS, "endpoint": STATIC}).map(lambda some: FACTS | some)
    | changes.map(lambda wrong: changed(FACTS, wrong))
)
def test_any_facts_that_the_controller_takes_are_taken_by_agents(said: Json) -> None:
    try:
        facts = parse_facts(said)
    except BadInput:
        return
    view = made_view(made_mesh(made_node(1), made_node(2, facts=facts)))
    [other] = view.peers.values()
    assert (other.key, other.port, other.lan) == (facts.wg_key, facts.listen_port, facts.lan)
    assert other.static == (facts.endpoint or None)


def test_an_odd_address_is_left_out_of_a_report() -> None:
    assert parse_facts(FACTS | {"lan": [*ODD, "192.168.1.7/24"]}).lan == (
        "240.0.0.1/4",  # some have such a LAN
        "192.168.1.7/24",
    )


@pytest.mark.usefixtures("state_dir")
@pytest.mark.parametrize("wrong", [{"listen_port": 0}, {"interface": "no name"}, {"order": -1}])
def test_what_could_not_be_read_replaces_nothing(wrong: dict[str, Any]) -> None:
    good = joined(peer(2))
    state.save(good)
    with pytest.raises(StateUnwritable, match="could not be read"):
        state.save(replace(good, **wrong))
    assert state.load("home") == good
