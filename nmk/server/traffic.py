"""What a node said of its traffic, as the admin API shows it."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from nmk.core.traffic import parse_traffic
from nmk.errors import BadInput

Json = dict[str, Any]


def traffic_json(told: tuple[int, str] | None, names: Mapping[str, str]) -> Json | None:
    """The summary that came `told[0]` seconds ago; None where there is none that makes sense.

    Ages of handshakes are as of now. `names`: of nodes, by their ids; a peer that is gone is left
    out.
    """
    if told is None:
        return None
    since, text = told
    with suppress(BadInput):
        traffic = parse_traffic(text)
        return {
            "received": traffic.received,
            "sent": traffic.sent,
            "live_peers": traffic.live,
            "handshake": _older(traffic.handshake, since),
            "told": since,
            "busiest": [
                {
                    "name": names[peer_id],
                    "received": peer.received,
                    "sent": peer.sent,
                    "handshake": _older(peer.handshake, since),
                }
                for peer_id, peer in traffic.busiest.items()
                if peer_id in names
            ],
        }
    return None


def _older(age: int | None, seconds: int) -> int | None:
    return None if age is None else age + seconds
