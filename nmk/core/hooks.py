"""The events that a machine's owner may hang programs on, and what each program is told."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from ipaddress import ip_network

from nmk.core.peers import View
from nmk.core.tunnel import Change, Tunnel, TunnelPeer

NAMES = ("up", "down", "peer-added", "peer-removed")
"""What a hook can be called."""

MOST_PEERS = 64  # that one change calls a hook for; the others are one event together


@dataclass(frozen=True, slots=True)
class Event:
    """Something that has happened to an interface.

    `name` is one of NAMES; `peer` is whom the last two are about, or `more` how many others.
    """

    name: str
    peer: TunnelPeer | None = None
    more: int = 0


def events_of(want: Tunnel, live: Tunnel | None, changes: list[Change]) -> list[Event]:
    """What has happened when the changes have turned `live` into `want`.

    An interface that comes up comes with all its peers: that is one event. A peer with a new key
    goes before it comes. Who says which peers there are does not say how long hooks run.
    """
    if live is None or not live.up:
        return [Event("up")]
    gone = [c.subject for c in changes if c.what == "remove-peer"]
    come = [c.subject for c in changes if c.what == "peer" and c.subject not in live.peers]
    return [
        *_bounded("peer-removed", [live.peers[key] for key in gone]),
        *_bounded("peer-added", [want.peers[key] for key in come]),
    ]


def _bounded(name: str, peers: Sequence[TunnelPeer]) -> list[Event]:
    events = [Event(name, peer) for peer in peers[:MOST_PEERS]]
    more = len(peers) - len(events)
    return [*events, Event(name, more=more)] if more else events


def environment_of(
    event: Event, network: str, interface: str, view: View | None, names: Mapping[str, str]
) -> dict[str, str]:
    """The variables that a hook finds set. `names`: of peers, by their keys.

    This is the only way in for what a controller says, and all of it has been checked: names are
    DNS labels, addresses are addresses.
    """
    told = {
        "NMK_EVENT": event.name,
        "NMK_NETWORK": network,
        "NMK_INTERFACE": interface,
        "NMK_NODE": view.name if view else "",
        "NMK_ADDRESSES": " ".join(view.addresses if view else ()),
    }
    if event.more:
        nobody = dict.fromkeys(("NMK_PEER", "NMK_PEER_ADDRESSES", "NMK_PEER_KEY"), "")
        return told | nobody | {"NMK_MORE": str(event.more)}
    if event.peer is None:
        return told
    return told | {
        "NMK_PEER": names.get(event.peer.key, ""),
        "NMK_PEER_ADDRESSES": " ".join(map(_plain, event.peer.allowed_ips)),
        "NMK_PEER_KEY": event.peer.key,
    }


def _plain(text: str) -> str:
    """A range of one address without its prefix length, another as it is."""
    found = ip_network(text)
    return str(found.network_address) if found.num_addresses == 1 else text
