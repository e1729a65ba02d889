"""A view from a hostile controller is refused, and nothing in one reaches a file unread."""

from __future__ import annotations

import contextlib
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nmk.core.mesh import encode_entry
from nmk.core.peers import merge_view, parse_view
from nmk.core.tunnel import compile_tunnel, render_quick
from nmk.errors import BadView, NmkError
from tests.core.made import key32, made_node

Json = dict[str, Any]


def good_view() -> Json:
    peers = {made_node(n).id: json.loads(encode_entry(made_node(n))) for n in (2, 3)}
    return {
        "network": {
            "name": "home",
            "cidrs": ["10.20.0.0/24"],
            "mtu": 1420,
            "keepalive": 25,
            "interval": 60,
            "listen-port": 51821,
        },
        "self": {"id": "0" * 16, "name": "n1", "addresses": ["10.20.0.1"], "observed": []},
        "peers": peers,
    }


def test_the_view_that_the_others_are_made_from_is_good() -> None:
    assert len(parse_view(good_view(), "home").peers) == 2


@pytest.mark.parametrize(
    ("where", "field", "value"),
    [
        ("network", "name", "other"),
        ("network", "cidrs", []),
        ("network", "cidrs", ["10.20.0.0/0"]),
        ("network", "cidrs", [5]),
        ("network", "mtu", 10),
        ("network", "mtu", None),
        ("network", "keepalive", "x"),
        ("network", "interval", [60]),
        ("self", "id", "x"),
        ("self", "id", 7),
        ("self", "name", "N1\nPostUp = x"),
        ("self", "addresses", []),
        ("self", "addresses", ["10.21.0.1"]),
        ("self", "addresses", [[]]),
        ("self", "observed", ["x"]),
        ("peer", "id", "1" * 16),
        ("peer", "name", "a b"),
        ("peer", "key", "short"),
        ("peer", "key", None),
        ("peer", "key", key32(3)),
        ("peer", "addresses", ["0.0.0.0"]),
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
    ],
)
def test_a_view_that_must_not_be_followed(where: str, field: str, value: object) -> None:
    view = good_view()
    part = view["peers"][made_node(2).id] if where == "peer" else view[where]
    part[field] = value
    with pytest.raises(BadView):
        parse_view(view, "home")


def test_one_address_in_two_spellings_is_one_address() -> None:
    view = good_view()
    view["network"]["cidrs"].append("fd20::/64")
    first, second = view["peers"].values()
    first["addresses"], second["addresses"] = ["fd20::a"], ["FD20:0::A"]
    with pytest.raises(BadView, match="fd20::a"):
        parse_view(view, "home")


anything = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=20)
    | st.sampled_from(["10.20.0.2", "10.20.0.0/24", "fe80::1%\nx/64", "home", "n1", key32(1)]),
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
    """What is taken cannot bring a line of its own into a configuration file."""
    view = good_view()
    put(view, place, value)
    with contextlib.suppress(BadView):
        made = compile_tunnel(parse_view(view, "home"), "nmk-home", "", 51821, ("10.0.0.1/8",), {})
        starts = {line.partition(" =")[0] for line in render_quick(made).splitlines()}
        assert starts <= {
            *("", "[Interface]", "PrivateKey", "ListenPort", "Address", "MTU"),
            *("[Peer]", "PublicKey", "AllowedIPs", "Endpoint", "PersistentKeepalive"),
        }


@given(anything, anything, places)
def test_whatever_the_reply_is_merging_takes_or_refuses_it(
    old: Any, value: object, place: list[int]
) -> None:
    view = good_view()
    reply = {
        "full": False,
        "gone": ["0" * 16],
        "network": view["network"],
        "self": view["self"],
        "peers": [list(view["peers"].values())],
    }
    put(reply, place, value)
    for before, told in ((None, old), (good_view(), reply), (old, reply), (good_view(), old)):
        with contextlib.suppress(BadView):
            merged = merge_view(before, told)
            with contextlib.suppress(NmkError):
                parse_view(merged, "home")
