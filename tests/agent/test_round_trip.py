"""Whatever a controller tells a machine: what is written of it can be read again."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nmk.agent import state
from nmk.agent.membership import Membership, decode, encode
from nmk.core.mesh import encode_client_entry, encode_entry
from nmk.core.parse import parse_endpoint
from nmk.core.tunnel import Own, compile_tunnel
from nmk.errors import BadInput, BadReply, BadView, RangesChanged, StateUnwritable
from nmk.wire.messages import parse_facts
from tests.agent.memberships import full_view, joined, joining, peer, told
from tests.core.made import (
    EXIT,
    INGRESS,
    Json,
    identity,
    key32,
    made_client,
    made_egress,
    made_mesh,
    made_node,
    made_view,
)
from tests.hostile.anything import Change, changed, changes

ME = joining()
ODD = (
    *("224.0.0.5/24", "239.255.255.250/32", "0.0.0.0/0", "0.1.2.3/8", "255.255.255.255/0"),
    *("127.0.0.1/8", "169.254.169.254/16", "::/128", "::1/128", "::10.0.0.1/96", "fe80::1/64"),
    *("ff02::1/64", "ff0e::1/8", "::ffff:10.0.0.1/128", "::ffff:0:0/96", "240.0.0.1/4"),
)
LANS = st.lists(
    st.sampled_from([*ODD, "192.168.1.7/24", "10.0.0.1/0", "2001:db8::7/64", "8.8.8.8/32"])
    | st.builds("{}/{}".format, st.ip_addresses(v=4), st.integers(0, 32) | st.just("255.255.255.0"))
    | st.builds("{}/{}".format, st.ip_addresses(v=6), st.integers(0, 128)),
    max_size=3,
)
SEEN = st.lists(
    st.sampled_from([a.partition("/")[0] for a in ODD]) | st.ip_addresses().map(str), max_size=3
)
STATIC = st.sampled_from(
    [None, "198.51.100.7:1", "127.0.0.1:7", "[fe80::1]:5", "0.0.0.0:1", "255.255.255.255:65535"]
)
PEERS = st.builds(
    lambda number, **other: peer(number) | other,
    st.integers(2, 5),
    lan=LANS,
    observed=SEEN,
    static=STATIC,
    addresses=st.sampled_from([[], ["10.77.0.9"], ["fd77::9"], ["10.77.0.8", "fd77::8"]]),
)


def whole() -> Json:
    """A view with all that there is in one."""
    nodes = [
        made_node(2, address4="10.77.0.2", gateway=INGRESS),
        made_node(3, address4="10.77.0.3", gateway=made_egress("192.168.7.0/24", "fd99::/64")),
        made_node(4, address4="10.77.0.4", gateway=EXIT, endpoint="198.51.100.7:1"),
    ]
    client = made_client(1, gateway=identity(2), address4="10.77.0.200", routes=("10.8.0.0/24",))
    view = full_view(ME)
    view["self"]["gateway"] = {"exit": {"nat": "auto", "interface": "eth0"}}
    view["peers"] = [[json.loads(encode_entry(node)) for node in nodes]]
    view["clients"] = [[json.loads(encode_client_entry(client))]]
    return view


WHOLE = whole()
SOME = (WHOLE["peers"][0], WHOLE["clients"][0], WHOLE["self"], WHOLE["network"])


def applied(view: Json, lan: tuple[str, ...]) -> Membership | None:
    """The membership once the view is applied; None where it is refused."""
    try:
        me = told(ME, view)
    except (BadView, BadReply, BadInput, RangesChanged, ValueError):
        return None
    assert me.known
    own = Own(me.interface, me.private_key, me.listen_port, lan)
    tunnel = compile_tunnel(me.known.view, own, {})
    given_ = {p.key: p.endpoint for p in tunnel.peers.values() if p.endpoint}
    return replace(me, phase="joined", endpoints=given_)


def check(view: Json, lan: tuple[str, ...] = ("192.168.1.1/24", "2001:db8::1/64")) -> None:
    me = applied(view, lan)
    if me:
        assert decode(encode(me), "home", "home.json") == me


@settings(deadline=None)
@given(st.lists(PEERS, max_size=3), SEEN, st.sampled_from([(), ("192.168.1.1/24", "fd00::1/64")]))
def test_where_nodes_are_said_to_be(
    peers: list[Json], observed: list[str], lan: tuple[str, ...]
) -> None:
    view = full_view(ME, *peers)
    view["network"]["cidrs"].append("fd77::/64")
    view["self"]["observed"] = observed
    check(view, lan)


@settings(deadline=None)
@given(changes)
def test_any_view_that_is_taken_in(wrong: list[Change]) -> None:
    check(changed(WHOLE, wrong))


@settings(deadline=None)
@given(st.sampled_from(range(len(SOME))), changes)
def test_any_part_of_a_view(which: int, wrong: list[Change]) -> None:
    """As above, but where it is seldom refused."""
    parts: list[Any] = list(SOME)
    parts[which] = changed(parts[which], wrong)
    peers, clients, myself, network = parts
    check(WHOLE | {"peers": [peers], "clients": [clients], "self": myself, "network": network})


def test_the_whole_view_is_taken_in() -> None:
    me = applied(WHOLE, ())
    assert me
    assert me.known
    assert len(me.known.view.others) == 4
    check(WHOLE)


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
