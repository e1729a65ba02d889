"""What `wg show INTERFACE dump` and `ip -json address show` print, as values (wg(8), ip(8))."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from ipaddress import ip_network

from nmk.core.amounts import age_of
from nmk.core.health import Counters
from nmk.core.nesting import read_json
from nmk.core.parse import MAX_PORT, brief, parse_int, parse_key
from nmk.core.tunnel import TunnelPeer
from nmk.errors import BadInput, CommandFailed

_MOST = 2**64  # what wg counts and times with
_INTERFACE_FIELDS = 4
_PEER_FIELDS = 8


@dataclass(frozen=True, slots=True)
class LivePeer:
    """A peer as it is now. `handshake`: seconds since 1970, 0 for never; the rest is bytes."""

    peer: TunnelPeer
    handshake: int
    received: int
    sent: int

    def counters(self, now: float) -> Counters:
        """The same as of the time `now`, in seconds since 1970."""
        age = age_of(self.handshake, now) if self.handshake else None
        return Counters(age, self.received, self.sent)


@dataclass(frozen=True, slots=True)
class Dump:
    """A WireGuard interface as it is now; its keys are "" where it has none yet."""

    private_key: str = field(repr=False)
    public_key: str
    listen_port: int
    peers: Mapping[str, LivePeer]
    mark: int = 0


@dataclass(frozen=True, slots=True)
class Link:
    """What the kernel says of an interface; `addresses` carry prefix lengths."""

    mtu: int
    up: bool
    addresses: tuple[str, ...]


def parse_dump(text: str) -> Dump:
    """The one interface of a dump. Raises CommandFailed; never quotes, as there are keys in it."""
    lines = text.splitlines()
    try:
        private_key, public_key, port, mark = _fields(lines[0] if lines else "", _INTERFACE_FIELDS)
        peers = [_parse_peer(line) for line in lines[1:]]
        return Dump(
            private_key=_given(private_key) or "",
            public_key=_given(public_key) or "",
            listen_port=parse_int(port, 0, MAX_PORT, "listen port"),
            peers={p.peer.key: p for p in peers},
            mark=0 if mark == "off" else int(mark, 16),
        )
    except (BadInput, ValueError) as error:
        raise CommandFailed(f"`wg show dump` printed what cannot be read: {error}") from None


def parse_link(text: str, interface: str) -> Link:
    """The interface in what `ip -json address show` printed. Raises CommandFailed."""
    try:
        # Some versions print an empty object for each interface that was not asked for.
        [link] = [entry for entry in read_json(text) if entry.get("ifname") == interface]
        return Link(
            mtu=int(link["mtu"]),
            up="UP" in link["flags"],
            addresses=tuple(f"{a['local']}/{a['prefixlen']}" for a in link["addr_info"]),
        )
    except (
        KeyError,
        TypeError,
        ValueError,
        AttributeError,
        StopIteration,
    ) as error:
        raise CommandFailed(
            f"`ip address show` printed what cannot be read: {brief(error)}"
        ) from None


def parse_kind(text: str, interface: str) -> str:
    """The kind in what `ip -json -details link show` printed, "" without one. As `parse_link`."""
    try:
        [link] = [entry for entry in read_json(text) if entry.get("ifname") == interface]
        return str(link.get("linkinfo", {}).get("info_kind", ""))
    except (TypeError, ValueError, AttributeError) as error:
        raise CommandFailed(f"`ip link show` printed what cannot be read: {brief(error)}") from None


def _parse_peer(line: str) -> LivePeer:
    key, preshared, endpoint, ranges, handshake, received, sent, keepalive = _fields(
        line, _PEER_FIELDS
    )
    allowed = (_given(ranges) or "").split(",")
    return LivePeer(
        peer=TunnelPeer(
            key=parse_key(key),
            allowed_ips=tuple(sorted(str(ip_network(r)) for r in allowed if r)),
            keepalive=0 if keepalive == "off" else parse_int(keepalive, 0, MAX_PORT, "keepalive"),
            endpoint=_given(endpoint),
            preshared_key=_given(preshared) or "",
        ),
        handshake=parse_int(handshake, 0, _MOST, "handshake"),
        received=parse_int(received, 0, _MOST, "received bytes"),
        sent=parse_int(sent, 0, _MOST, "sent bytes"),
    )


def _fields(line: str, count: int) -> list[str]:
    fields = line.split("\t")
    if len(fields) != count:
        raise ValueError(f"a line of {len(fields)} fields instead of {count}")
    return fields


def _given(text: str) -> str | None:
    return None if text == "(none)" else text
