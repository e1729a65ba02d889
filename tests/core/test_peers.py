"""A view from a hostile controller is refused, and nothing in one reaches a file unread."""

from __future__ import annotations

import contextlib
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nmk.core import nft_text, peers
from nmk.core.gateways import Egress, Exit, Gateway, Ingress, gateway_json
from nmk.core.mesh import encode_client_entry
from nmk.core.peers import View, merge_view, parse_view, read_reply, view_json
from nmk.core.room import encode_entry
from nmk.core.route_table import NO_TABLE, compile_table, plan_table
from nmk.core.routes import RouteWishes, compile_routing
from nmk.core.ruleset import render_ruleset
from nmk.core.tunnel import Own, compile_tunnel, render_quick
from nmk.errors import BadView
from tests.core.made import Json, identity, key32, made_client, made_node

ME = made_node(1).id
ALL = Gateway(Ingress("vpn.example.org:51821"), Egress(("192.168.7.0/24",)), Exit())


def good_view() -> Json:
    """n1 and n3 are gateways, c1 calls n1, c2 calls n3."""
    nodes = [made_node(2), made_node(3, gateway=ALL)]
    clients = [made_client(1), made_client(2, gateway=identity(3))]
    return {
        "network": {
            "name": "home",
            "cidrs": ["10.20.0.0/24"],
            "mtu": 1420,
            "keepalive": 25,
            "interval": 60,
            "listen-port": 51821,
        },
        "self": {
            "id": ME,
            "name": "n1",
            "addresses": ["10.20.0.1"],
            "observed": [],
            "gateway": gateway_json(ALL),
        },
        "peers": {n.id: json.loads(encode_entry(n)) for n in nodes},
        "clients": {c.id: json.loads(encode_client_entry(c)) for c in clients},
    }


def test_the_view_that_the_others_are_made_from_is_good() -> None:
    view = parse_view(good_view(), "home")
    assert [(p.name, p.gateway.roles) for p in view.peers.values()] == [
        ("n2", ()),
        ("n3", ("ingress", "egress", "exit")),
    ]
    assert view.gateway == view.peers[made_node(3).id].gateway == ALL
    assert [(c.name, c.addresses, c.via) for c in view.clients.values()] == [
        ("c1", ("10.20.0.201",), ME),
        ("c2", ("10.20.0.202",), made_node(3).id),
    ]


def test_a_view_of_0_1_0_has_neither_gateways_nor_clients() -> None:
    view = good_view()
    del view["clients"], view["self"]["gateway"], view["peers"][made_node(3).id]["gateway"]
    parsed = parse_view(view, "home")
    assert (parsed.gateway.roles, parsed.clients) == ((), {})
    assert [p.gateway.roles for p in parsed.peers.values()] == [(), ()]


@pytest.mark.parametrize(
    ("where", "field", "value"),
    [
        ("network", "name", "other"),
        ("network", "cidrs", []),
        ("network", "cidrs", ["10.20.0.0/0"]),
        ("network", "cidrs", [5]),
        ("network", "cidrs", ["10.20.0.0/24", "1.0.0.0/8"]),
        ("network", "cidrs", ["10.20.0.0/24", "fd20::/64", "2001:db8::/32"]),
        ("network", "mtu", 10),
        ("network", "mtu", None),
        ("network", "keepalive", "x"),
        ("network", "interval", [60]),
        ("self", "id", "x"),
        ("self", "id", 7),
        ("self", "name", "N1\nPostUp = x"),
        ("self", "addresses", []),
        ("self", "addresses", ["10.21.0.1"]),
        ("self", "addresses", ["10.20.0.1", "10.20.0.77"]),
        ("self", "addresses", [[]]),
        ("self", "observed", ["x"]),
        ("peer", "id", "1" * 16),
        ("peer", "name", "a b"),
        ("peer", "key", "short"),
        ("peer", "key", None),
        ("peer", "key", key32(3)),
        ("peer", "addresses", ["0.0.0.0"]),
        ("peer", "addresses", ["10.20.0.2", "10.20.0.77"]),
        ("peer", "addresses", ["10.20.0.1"]),
        ("peer", "addresses", ["10.20.0.3"]),
        ("peer", "addresses", [169_869_315]),  # the same, as a number
        ("peer", "port", 0),
        ("peer", "port", "51821\n"),
        ("peer", "lan", ["192.168.1.7/24\n"]),
        ("peer", "lan", ["fe80::1%\nPostUp = x\n/64"]),
        ("peer", "lan", 5),
        ("peer", "observed", ["fe80::1%\nPostUp = x"]),
        ("peer", "static", "198.51.100.7:1\nPostUp = x"),
        ("peer", "static", 7),
        ("peer", "gateway", None),
        ("peer", "gateway", []),
        ("peer", "gateway", {"egress": {"nat": "auto"}}),
        ("peer", "gateway", {"ingress": {"endpoint": "vpn\nPostUp = x:1"}}),
        ("peer", "gateway", {"exit": {"nat": "auto", "interface": 'eth0" accept'}}),
        ("peer", "gateway", {"exit": {"nat": ["auto"], "interface": None}}),
        ("client", "id", "1" * 16),
        ("client", "name", "a b"),
        ("client", "key", "short"),
        ("client", "key", key32(2)),
        ("client", "key", made_client(1).public_key),
        ("client", "addresses", ["10.21.0.1"]),
        ("client", "addresses", ["10.20.0.1"]),
        ("client", "addresses", ["10.20.0.2"]),
        ("client", "addresses", ["10.20.0.201"]),
        ("client", "addresses", None),
        ("client", "via", "x"),
        ("client", "via", 7),
        ("client", "via", None),
        ("client", "via", ["0"] * 16),
        ("client", "via", {c: c for c in "0123456789abcdef"}),
    ],
)
def test_a_view_that_must_not_be_followed(where: str, field: str, value: object) -> None:
    view = good_view()
    places = {
        "peer": view["peers"][made_node(2).id],
        "client": view["clients"][made_client(2).id],
        "network": view["network"],
        "self": view["self"],
    }
    places[where][field] = value
    with pytest.raises(BadView):
        parse_view(view, "home")


@pytest.mark.parametrize("where", ["self", "peer"])
@pytest.mark.parametrize(
    "cidr", ["10.20.0.0/24", "10.20.0.64/26", "10.20.0.0/16", "10.0.0.0/8", "0.0.0.0/0", "::/0"]
)
def test_a_gateway_cannot_take_what_is_the_networks(where: str, cidr: str) -> None:
    view = good_view()
    gateway = gateway_json(Gateway(egress=Egress((cidr,))))
    (view["self"] if where == "self" else view["peers"][made_node(2).id])["gateway"] = gateway
    with pytest.raises(BadView):
        parse_view(view, "home")


@pytest.mark.parametrize(("owner", "address"), [(ME, "10.20.0.1"), (made_node(2).id, "10.20.0.2")])
def test_a_client_that_goes_by_a_nodes_id_does_not_get_its_address(
    owner: str, address: str
) -> None:
    view = good_view()
    client = view["clients"][made_client(2).id]
    view["clients"] = {owner: {**client, "id": owner, "addresses": [address]}}
    with pytest.raises(BadView):
        parse_view(view, "home")


def test_one_address_in_two_spellings_is_one_address() -> None:
    view = good_view()
    view["network"]["cidrs"].append("fd20::/64")
    first, second = view["peers"].values()
    first["addresses"], second["addresses"] = ["fd20::a"], ["FD20:0::A"]
    with pytest.raises(BadView, match="fd20::a"):
        parse_view(view, "home")


@pytest.mark.parametrize(
    ("bound", "what"),
    [
        ("MOST_OTHERS", "nodes and ext clients"),
        ("MOST_CANDIDATES", "addresses to reach nodes at"),
        ("MOST_EGRESS_RANGES", "ranges outside the network"),
    ],
)
@pytest.mark.parametrize("way", ["a full view", "deltas", "a file"])
def test_amounts_are_bounded_however_they_come(
    bound: str, what: str, way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    view = good_view()
    for number, peer in enumerate(view["peers"].values()):
        peer["lan"] = [f"192.168.{number}.7/24"]
    blocks = [[peer] for peer in view["peers"].values()]
    clients = [[client] for client in view["clients"].values()]
    reply = {"full": True, "network": view["network"], "self": view["self"]}
    amounts = {"MOST_OTHERS": 4, "MOST_CANDIDATES": 2, "MOST_EGRESS_RANGES": 2}

    def take() -> None:
        if way == "a file":
            parse_view(view, "home")
        elif way == "a full view":
            whole = reply | {"peers": blocks, "clients": clients}
            merge_view(None, read_reply(json.dumps(whole).encode()), "home")
        else:
            found = None
            for block in blocks:
                one = reply | {"full": found is None, "peers": [block], "clients": clients}
                found = merge_view(found, read_reply(json.dumps(one).encode()), "home")

    monkeypatch.setattr(peers, bound, amounts[bound])
    take()
    monkeypatch.setattr(peers, bound, amounts[bound] - 1)
    with pytest.raises(BadView, match=f"more than {amounts[bound] - 1} {what}"):
        take()


anything = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=20)
    | st.sampled_from(["10.20.0.2", "10.20.0.0/24", "fe80::1%\nx/64", "home", "n1", key32(1)])
    | st.sampled_from([ME, "192.168.8.0/24", "vpn.example.org:1", 'eth0" drop', "eth1", "off"]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=9), inner),
    max_leaves=12,
)
places = st.lists(st.integers(0, 5), min_size=1, max_size=5)


def put(tree: Any, place: list[int], value: object) -> None:
    """Replace what stands at a place in a tree of lists and dicts."""
    keys = list(tree) if isinstance(tree, dict) else list(range(len(tree)))
    key = keys[place[0] % len(keys)]
    if len(place) > 1 and isinstance(tree[key], dict | list) and tree[key]:
        put(tree[key], place[1:], value)
    else:
        tree[key] = value


@given(places, anything)
def test_whatever_stands_anywhere_is_taken_or_refused(place: list[int], value: object) -> None:
    """What is taken cannot bring a line of its own into anything that a program reads."""
    view = good_view()
    put(view, place, value)
    with contextlib.suppress(BadView):
        check_lines(parse_view(view, "home"))


def check_lines(view: View) -> None:
    wishes = RouteWishes(exit_node="n3", kill_switch=True)
    routing = compile_routing(view, wishes, [], set(), set())
    shared = {made_client(1).public_key: key32(1, kind=3)}
    own = Own("nmk-home", "", 51821, ("10.0.0.1/8",), preshared=shared)
    quick = render_quick(compile_tunnel(view, own, routing.ranges))
    assert {line.partition(" =")[0] for line in quick.splitlines()} <= {
        *("", "[Interface]", "PrivateKey", "ListenPort", "Address", "MTU"),
        *("[Peer]", "PublicKey", "AllowedIPs", "Endpoint", "PersistentKeepalive", "PresharedKey"),
    }
    text = render_ruleset(nft_text.Own("nmk-home", "nmk-home"), view, routing, wishes)
    assert text
    assert {line.split()[0] for line in text.splitlines()} <= {
        *("table", "chain", "}", "type", "oifname", "iifname", "ct", "meta", "udp", "drop"),
        *("ip", "ip6", "icmpv6", "fib", "counter", "goto"),
    }
    for command in plan_table(0, "nmk-home", compile_table(0, view, routing), NO_TABLE):
        lines = (command.stdin or "").splitlines()
        assert {line.split()[0] for line in lines} <= {"route", "rule"}


@given(anything, anything, places)
def test_whatever_the_reply_is_merging_takes_or_refuses_it(
    anything: Any, value: object, place: list[int]
) -> None:
    view = good_view()
    reply = {
        "full": False,
        "gone": ["0" * 16],
        "network": view["network"],
        "self": view["self"],
        "peers": [list(view["peers"].values())],
        "clients": [list(view["clients"].values())],
    }
    good = parse_view(view, "home")
    put(reply, place, value)
    for before, told in ((None, reply), (good, reply), (None, anything), (good, anything)):
        with contextlib.suppress(BadView, ValueError):
            merged = merge_view(before, read_reply(json.dumps(told).encode()), "home")
            assert parse_view(view_json(merged, "home"), "home") == merged
