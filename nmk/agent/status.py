"""What a network looks like from this machine; the controller is not needed for it."""

from __future__ import annotations

import socket
from typing import Any
from urllib.parse import urlsplit

from nmk.agent import interface, state
from nmk.agent.membership import Membership
from nmk.agent.settings import local_settings
from nmk.agent.tick import collect_facts
from nmk.core.endpoints import choose_endpoint
from nmk.core.peers import Peer, View
from nmk.errors import InterfaceTaken
from nmk.system import wireguard
from nmk.system.dump import Dump, LivePeer
from nmk.system.runner import Runner

Row = dict[str, Any]
_CONTROLLER_TIMEOUT = 2.0  # seconds


def status(network: str, run: Runner, now: float) -> Row:
    """The network as an object for people and scripts. `now`: seconds since 1970.

    `state` is one of up, down (as its owner wishes), missing, taken, joining, deleted.
    """
    me = state.load(network)
    condition, dump = _live(me, run)
    local = local_settings(network)
    view = me.known.view if me.known else None
    lan = collect_facts(me, local).lan
    return {
        "network": network,
        "name": view.name if view else me.wishes.name,
        "addresses": list(view.addresses) if view else [],
        "interface": me.interface,
        "state": condition,
        "listen_port": dump.listen_port if dump else interface.listen_port(me, local),
        "controller": {"url": me.urls[0], "reachable": any(map(is_reachable, me.urls))},
        "peers": [
            describe_peer(peer, dump.peers.get(peer.key) if dump else None, view, lan, now)
            for peer in sorted(view.peers.values(), key=lambda p: p.name)
        ]
        if view
        else [],
    }


def describe_peer(
    peer: Peer, live: LivePeer | None, view: View, lan: tuple[str, ...], now: float
) -> Row:
    """A peer by name. `kind` is how its endpoint was found, "roamed" where WireGuard found it.

    `handshake` is the age of the last one in seconds, None before the first.
    """
    kind, endpoint = choose_endpoint(
        lan, view.observed, peer.static, peer.lan, peer.observed, peer.port
    ) or (None, None)
    if live and live.peer.endpoint and live.peer.endpoint != endpoint:
        kind, endpoint = "roamed", live.peer.endpoint
    return {
        "name": peer.name,
        "addresses": list(peer.addresses),
        "endpoint": endpoint,
        "kind": kind,
        "handshake": max(0, int(now - live.handshake)) if live and live.handshake else None,
        "received": live.received if live else 0,
        "sent": live.sent if live else 0,
    }


def is_reachable(url: str) -> bool:
    """Whether something takes connections at a URL."""
    parts = urlsplit(url)
    port = parts.port or {"http": 80, "https": 443}[parts.scheme]
    try:
        socket.create_connection((parts.hostname, port), _CONTROLLER_TIMEOUT).close()
    except (OSError, UnicodeError):
        return False
    return True


def _live(me: Membership, run: Runner) -> tuple[str, Dump | None]:
    if me.phase != "joined":
        return me.phase, None
    if not wireguard.exists(me.interface):
        return "down" if me.down else "missing", None
    try:
        dump = wireguard.look(run, me.interface)
    except InterfaceTaken:
        return "taken", None
    return ("up", dump) if dump.private_key in {"", me.private_key} else ("taken", None)
