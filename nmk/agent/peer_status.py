"""How the peers and ext clients of a network are, as this machine hears them."""

from __future__ import annotations

from collections.abc import Collection, MutableMapping, Sequence
from ipaddress import ip_address, ip_interface
from math import inf
from typing import Any

from nmk.agent import history
from nmk.agent.membership import Membership
from nmk.core.endpoints import choose_endpoint, is_pair_behind_nats
from nmk.core.health import Counters, Trail, follow, is_session, judge
from nmk.core.peers import Peer, View
from nmk.core.settings import NETWORK_SETTINGS
from nmk.system.dump import Dump, LivePeer

Row = dict[str, Any]
Trails = MutableMapping[tuple[str, str], Trail]  # by network and peer's key
NEXT = {  # by a peer's state
    "failed": "nmk ping -n {here} {node}",
    "silent": "nmk ping -n {here} {node}",
    "waiting": "on the controller: nmk node set -n {there} {node} endpoint=ADDRESS[:PORT]",
}
NAT = "it and this machine are both behind NAT: neither has an address that the other can reach"
UNHEARD = "this machine has just joined, and it hears of that at its next check-in"
_ON_THE_WAY = 30  # seconds, beside the interval of check-ins, until a handshake has been made
WHYS = {
    "static": "pinned",
    "observed": "where the controller sees it",
    "roamed": "where WireGuard heard it",
}


def describe_clients(view: View, dump: Dump | None, now: float) -> list[Row]:
    """The ext clients of this ingress gateway, by name."""
    found = []
    mine = [c for c in view.clients.values() if c.via == view.id and view.gateway.ingress]
    for client in sorted(mine, key=lambda c: c.name):
        there = dump.peers.get(client.key) if dump else None
        counters = there.counters(now) if there else Counters()
        in_touch = is_session(counters.handshake)
        found.append(
            {
                "name": client.name,
                "addresses": list(client.addresses),
                "ranges": list(client.ranges),
                "state": ("connected" if in_touch else "idle") if there else "off",
                "endpoint": there.peer.endpoint if there else None,
                "handshake": counters.handshake,
                "received": counters.received,
                "sent": counters.sent,
            }
        )
    return found


def describe_peers(
    view: View,
    dump: Dump | None,
    lan: tuple[str, ...],
    now: float,
    trails: Trails,
    silent: Collection[str] = (),
    network: str | None = None,
) -> list[Row]:
    """All peers, by name. `lan`: this machine's addresses; `silent`: ids of those given up.

    `network`: what this machine calls it, if not as the controller does.
    """
    there = dump.peers if dump else {}
    return [
        describe_peer(peer, there.get(peer.key), view, lan, now, trails, peer.id in silent, network)
        for peer in sorted(view.peers.values(), key=lambda p: p.name)
    ]


def describe_peer(
    peer: Peer,
    there: LivePeer | None,
    view: View,
    lan: tuple[str, ...],
    now: float,
    trails: Trails,
    is_silent: bool = False,
    network: str | None = None,
) -> Row:
    """A peer by name: its path, its counters, what is wrong, and what to do about that.

    `kind` is how its endpoint was found, roamed where WireGuard found it, `why` the same in words.
    `handshake` is the age of the last one in seconds, None before the first, negative where that is
    in the future.
    """
    kind, endpoint = path(peer, there, view, lan)
    counters = there.counters(now) if there else Counters()
    condition, problem = "off", None
    if there:
        place = (view.network, peer.key)
        trail = trails[place] = follow(trails.get(place), counters, now)
        health = judge(
            counters,
            endpoint=endpoint,
            keepalive=there.peer.keepalive,
            unanswered=None if trail.unanswered is None else now - trail.unanswered,
        )
        condition, problem = health.state, health.problem
        if is_silent and condition != "waiting":
            condition = "silent"
            problem = problem or f"packets go out to {endpoint}, and nothing comes back"
    names = {"here": network or view.network, "there": view.network, "node": peer.name}
    known = "silent" if condition == "trying" and problem else condition
    cure = NEXT.get(known, "").format(**names) or None
    if condition in {"failed", "silent"} and is_nat_between(peer, view, lan):
        problem, cure = f"{problem}; {NAT}", through_nat(view, peer)
    return {
        "name": peer.name,
        "addresses": list(peer.addresses),
        "state": condition,
        "endpoint": endpoint,
        "kind": kind,
        "why": explain(kind, endpoint, lan),
        "handshake": counters.handshake,
        "received": counters.received,
        "sent": counters.sent,
        "problem": problem,
        "next": cure,
    }


def is_newcomer(me: Membership, now: float) -> bool:
    """Whether it joined so lately that peers may not know it. `now`: seconds since 1970."""
    settings = me.known.view.settings if me.known else {}
    interval = settings.get("interval", NETWORK_SETTINGS["interval"].default)
    joined = (entry.at for entry in history.read(me.network) if entry.cause == "join")
    return 0 <= now - max(joined, default=-inf) <= interval + _ON_THE_WAY


def bear_with(rows: list[Row], me: Membership, now: float) -> list[Row]:
    """The same, where those that have never answered may not know of this machine yet."""
    silent = [row for row in rows if row["state"] == "failed" and row["handshake"] is None]
    if silent and is_newcomer(me, now):
        for row in silent:
            hint = f"wait for that; at once: nmk checkin, on {row['name']}"
            row |= {"state": "trying", "problem": UNHEARD, "next": hint}
    return rows


def is_nat_between(peer: Peer, view: View, lan: Sequence[str]) -> bool:
    """Whether this machine and a peer are behind NAT, and nobody has pinned an endpoint of it."""
    pair = is_pair_behind_nats(lan, view.observed, peer.lan, peer.observed)
    return pair and peer.static is None


def through_nat(view: View, peer: Peer) -> str:
    """What gets two machines together that are both behind NAT."""
    return (
        f"forward UDP port {peer.port} on the router of {peer.name} to it; then on the "
        f"controller: nmk node set -n {view.network} {peer.name} endpoint=ADDRESS-OF-THE-ROUTER; "
        "or the same for this machine"
    )


def path(
    peer: Peer, there: LivePeer | None, view: View, lan: tuple[str, ...]
) -> tuple[str | None, str | None]:
    """The kind of a peer's endpoint, and the endpoint."""
    chosen = choose_endpoint(lan, view.observed, peer.static, peer.lan, peer.observed, peer.port)
    kind, endpoint = chosen or (None, None)
    if there and there.peer.endpoint and there.peer.endpoint != endpoint:
        return "roamed", there.peer.endpoint
    return kind, endpoint


def explain(kind: str | None, endpoint: str | None, lan: tuple[str, ...]) -> str | None:
    """Why a peer's packets go where they go, in a few words."""
    if kind is None or endpoint is None:
        return None
    address = ip_address(endpoint.rpartition(":")[0].strip("[]"))
    near = any(address in ip_interface(own).network for own in lan)
    return WHYS.get(kind, "in a subnet of ours" if near else "an address of its own")
