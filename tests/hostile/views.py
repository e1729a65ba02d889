"""Views that a lying controller sends, odd in every way, and what machines make of them."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

from hypothesis import strategies as st

from nmk.agent.membership import Membership
from nmk.core.mesh import encode_client_entry
from nmk.core.room import encode_entry
from nmk.core.tunnel import Own, compile_tunnel
from nmk.errors import BadReply, BadView, RangesChanged
from tests.agent.memberships import full_view, joining, peer, told
from tests.core.made import (
    EXIT,
    INGRESS,
    Json,
    identity,
    made_client,
    made_egress,
    made_node,
)
from tests.hostile.anything import changed, changes

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
_PEERS = st.lists(
    st.builds(
        lambda number, **other: peer(number) | other,
        st.integers(2, 5),
        lan=LANS,
        observed=SEEN,
        static=STATIC,
        addresses=st.sampled_from([[], ["10.77.0.9"], ["fd77::9"], ["10.77.0.8", "fd77::8"]]),
    ),
    max_size=3,
)


def whole() -> Json:
    """A view with all that there is in one."""
    nodes = [
        made_node(2, address4="10.77.0.2", gateway=INGRESS),
        made_node(3, address4="10.77.0.3", gateway=made_egress("192.168.7.0/24", "fd99::/64")),
        made_node(4, address4="10.77.0.4", gateway=EXIT, endpoint="198.51.100.7:1"),
    ]
    clients = [
        made_client(1, gateway=identity(2), address4="10.77.0.200", routes=("10.8.0.0/24",)),
        made_client(2, gateway=identity(3), address4="10.77.0.201"),
    ]
    own = made_client(3, address4="10.77.0.202")
    view = full_view(ME)
    view["self"]["gateway"] = {
        "ingress": {"endpoint": None},
        "exit": {"nat": "auto", "interface": "eth0"},
    }
    view["peers"] = [[json.loads(encode_entry(node)) for node in nodes]]
    view["clients"] = [[json.loads(encode_client_entry(client)) for client in (*clients, own)]]
    view["clients"][0][2]["via"] = ME.id
    return view


WHOLE = whole()


def _odd_places(peers: list[Json], observed: list[str]) -> Json:
    view = full_view(ME, *peers)
    view["network"]["cidrs"].append("fd77::/64")
    view["self"]["observed"] = observed
    return view


def _without_addresses(who: list[int]) -> Json:
    """The whole view with nodes and ext clients that have no address."""
    entries = [*WHOLE["peers"][0], *WHOLE["clients"][0]]
    entries = [e | ({"addresses": []} if n in who else {}) for n, e in enumerate(entries)]
    return WHOLE | {"peers": [entries[:3]], "clients": [entries[3:]]}


def _odd_part(name: str, wrong: Any) -> Json:
    """As any view that is wrong, but where it is seldom refused as a whole."""
    if name not in {"peers", "clients"}:
        return WHOLE | {name: changed(WHOLE[name], wrong)}
    return WHOLE | {name: [changed(WHOLE[name][0], wrong)]}


VIEWS = st.one_of(
    st.builds(_odd_places, _PEERS, SEEN),
    st.builds(_without_addresses, st.lists(st.integers(0, 5), min_size=1)),
    st.builds(_odd_part, st.sampled_from(["peers", "clients", "self", "network"]), changes),
    changes.map(lambda wrong: changed(WHOLE, wrong)),
)


def taken_in(view: Json, lan: tuple[str, ...] = ("192.168.1.1/24",)) -> Membership | None:
    """The membership once the view is applied; None where the view is refused."""
    try:
        me = told(ME, view)
    except (BadView, BadReply, RangesChanged, ValueError):
        return None
    assert me.known
    own = Own(me.interface, me.private_key, me.listen_port, lan)
    peers = compile_tunnel(me.known.view, own, {}).peers.values()
    return replace(me, phase="joined", endpoints={p.key: p.endpoint for p in peers if p.endpoint})
