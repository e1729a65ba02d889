"""What an agent tells its controller of its tunnel with every check-in, in one short text.

The controller keeps the text as it came and takes it apart when somebody looks: on the way of a
check-in it costs a comparison of its length. An ingress gateway tells of its ext clients in
another one.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from nmk.core.health import Counters, is_session
from nmk.core.parse import parse_endpoint, parse_int
from nmk.errors import BadInput

LONGEST = 400  # bytes, all ASCII; with the rest of a check-in below what would be deflated
LONGEST_OF_CLIENTS = 128 * 1024  # bytes, all ASCII, about 1,500 clients that are in touch
MOST_BUSIEST = 8
_HIGHEST = 2**64
_NEVER = "-"
_ZONE = re.compile(r"%[^\]]*")  # of a link-local address, which means nothing elsewhere


@dataclass(frozen=True, slots=True)
class Traffic:
    """A tunnel's sums since its interface was made, in bytes, and its state at a check-in.

    `live`: peers that have a session; `handshake`: seconds since the newest one of all, None
    before the first. `busiest`: those with the most bytes, by their ids, the busiest first.
    """

    received: int
    sent: int
    live: int
    handshake: int | None
    busiest: Mapping[str, Counters]


@dataclass(frozen=True, slots=True)
class Caller:
    """An ext client at its gateway: its counters, and where it calls from, None before it has."""

    counters: Counters
    endpoint: str | None = None


def sum_up(peers: Mapping[str, Counters]) -> Traffic:
    """The summary of a tunnel whose peers are given by their ids."""
    ages = [p.handshake for p in peers.values() if p.handshake is not None and p.handshake >= 0]
    used = [i for i, p in peers.items() if p.received + p.sent]
    used.sort(key=lambda i: (-peers[i].received - peers[i].sent, i))
    return Traffic(
        received=sum(p.received for p in peers.values()),
        sent=sum(p.sent for p in peers.values()),
        live=sum(map(is_session, ages)),
        handshake=min(ages, default=None),
        busiest={i: peers[i] for i in used[:MOST_BUSIEST]},
    )


def encode_traffic(traffic: Traffic) -> str:
    """`RECEIVED,SENT,LIVE,HANDSHAKE` and ` ID,RECEIVED,SENT,HANDSHAKE` for each of the busiest.

    Of these as many as there is room for. HANDSHAKE is `-` where there was none, or none is known.
    """
    text = _fields(traffic.received, traffic.sent, traffic.live, _age(traffic.handshake))
    for peer_id, peer in traffic.busiest.items():
        more = " " + _fields(peer_id, peer.received, peer.sent, _age(peer.handshake))
        if len(text) + len(more) > LONGEST:
            break
        text += more
    return text


def parse_traffic(text: str) -> Traffic:
    """What `encode_traffic` made. Raises BadInput."""
    head, *peers = text.split(" ")
    received, sent, live, handshake = _split(head)
    return Traffic(
        received=_number(received),
        sent=_number(sent),
        live=_number(live),
        handshake=_parse_age(handshake),
        busiest=dict(_parse_peers(peers)),
    )


def encode_callers(callers: Mapping[str, Caller]) -> str:
    """` `-separated `ID,RECEIVED,SENT,HANDSHAKE,ENDPOINT` of those that ever called, by their ids.

    The last that called come first, and of these as many as there is room for.
    """
    called = [
        (c.counters.handshake, i) for i, c in callers.items() if c.counters.handshake is not None
    ]
    texts: list[str] = []
    room = LONGEST_OF_CLIENTS
    for handshake, client_id in sorted(called):
        caller = callers[client_id]
        endpoint = _ZONE.sub("", caller.endpoint or _NEVER)
        counters = caller.counters
        text = _fields(client_id, counters.received, counters.sent, _age(handshake), endpoint)
        room -= len(text) + 1
        if room < 0:
            break
        texts.append(text)
    return " ".join(texts)


def parse_callers(text: str) -> dict[str, Caller]:
    """What `encode_callers` made. Raises BadInput."""
    found = {}
    for part in text.split(" ") if text else ():
        client_id, received, sent, handshake, endpoint = _split(part, 5)
        counters = Counters(_parse_age(handshake), _number(received), _number(sent))
        found[client_id] = Caller(
            counters, None if endpoint == _NEVER else parse_endpoint(endpoint)
        )
    return found


def _parse_peers(texts: Iterable[str]) -> Iterable[tuple[str, Counters]]:
    for text in texts:
        peer_id, received, sent, handshake = _split(text)
        yield peer_id, Counters(_parse_age(handshake), _number(received), _number(sent))


def _split(text: str, count: int = 4) -> list[str]:
    fields = text.split(",")
    if len(fields) != count:
        raise BadInput(f"{text!r:.80} says nothing of traffic")
    return fields


def _number(text: str) -> int:
    return parse_int(text, 0, _HIGHEST, "number of a traffic summary")


def _parse_age(text: str) -> int | None:
    return None if text == _NEVER else _number(text)


def _age(seconds: int | None) -> str:
    return _NEVER if seconds is None or seconds < 0 else str(seconds)


def _fields(*values: object) -> str:
    return ",".join(map(str, values))
