"""Which gateways that it matters of do not answer, as seen from here.

Those that stand in for one another, and the exit node. Noted where nothing outlives a reboot,
from one look to the next; nothing is noted, or written, where there is none of either.

One that fell silent is back when something other than a handshake has come from it. Handshakes
that cross on the way can end with keys that one end alone has, which WireGuard notices 15 s after
the first packet: so such a gateway is sent one at each look, before any traffic is.
"""

from __future__ import annotations

import json
import time
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

from nmk.agent.membership import Membership
from nmk.agent.places import make_runtime_directory, runtime_directory
from nmk.agent.settings import route_wishes
from nmk.core.health import Trail, follow, judge
from nmk.core.nesting import read_json
from nmk.core.routes import watched
from nmk.files import read_file, write_private
from nmk.system.dump import Dump, LivePeer
from nmk.system.knock import knock

_MOST_BYTES = 1024 * 1024  # of what is noted
_FIRST_ANSWER = 5.0  # seconds; what is lost of a handshake is sent again then (REKEY_TIMEOUT)
_SILENT = {"failed", "waiting"}  # of core.health's states


def matters(me: Membership) -> set[str]:
    """The ids of the gateways to look at."""
    return watched(me.known.view, route_wishes(me)) if me.known else set()


def look(me: Membership, dump: Dump | None) -> tuple[str, ...]:
    """Take note of how the gateways are; lines that say which fell silent or came back.

    `dump`: what WireGuard says of the interface.
    """
    before = _read(me.network)
    if not matters(me):
        forget(me.network)
        return ()
    if dump is None or me.known is None:
        return ()
    now = _follow_all(me, dump, before)
    if now != before:
        with suppress(OSError):
            make_runtime_directory()
            write_private(_file(me.network), json.dumps(now).encode())
    peers, was, is_now = me.known.view.peers, _silent(before), _silent(now)
    for address in (a for key in is_now for a in peers[key].addresses):
        knock(me.interface, address)
    fell = sorted(f"{peers[key].name} fell silent" for key in is_now - was)
    came = sorted(f"{peers[key].name} answers again" for key in was - is_now if key in now)
    return (*fell, *came)


def dead(network: str) -> set[str]:
    """The ids of gateways that did not answer at the last look."""
    return _silent(_read(network))


def silent(me: Membership, dump: Dump | None) -> set[str]:
    """The ids of gateways that do not answer now; nothing is noted."""
    return _silent(_follow_all(me, dump, _read(me.network))) if dump else set()


def forget(network: str) -> None:
    """There is nothing to choose any more."""
    with suppress(OSError):
        _file(network).unlink()
        runtime_directory().rmdir()


def _follow_all(me: Membership, dump: Dump, before: dict[str, Any]) -> dict[str, Any]:
    now = {}
    for key in sorted(matters(me)):
        there = dump.peers.get(me.known.view.peers[key].key) if me.known else None
        if there:
            now[key] = _follow(before.get(key), there)
    return now


def _silent(rows: dict[str, Any]) -> set[str]:
    return {key for key, row in rows.items() if _is_silent(row)}


def _follow(before: Any, there: LivePeer) -> dict[str, Any]:  # noqa: ANN401  # JSON
    counters = there.counters(time.time())
    clock = time.monotonic()  # of the kernel: the same for all runs since the machine started
    trail = follow(_trail(before), counters, clock)
    health = judge(
        counters,
        endpoint=there.peer.endpoint,
        keepalive=there.peer.keepalive,
        unanswered=None if trail.unanswered is None else clock - trail.unanswered,
    )
    # An old handshake alone tells nothing at first: keepalives may just have begun.
    since = clock if before is None else _since(before, clock)
    is_old = clock - since >= _FIRST_ANSWER
    is_known = is_old or counters.handshake is None or health.state == "waiting"
    was_silent = _is_silent(before) and not _has_spoken(before, there)
    silent = was_silent or (health.state in _SILENT and is_known)
    noted = {"handshake": there.handshake, "silent": silent, "since": since}
    return {**asdict(trail), **noted}


def _since(row: Any, clock: float) -> float:  # noqa: ANN401  # JSON
    """When it was looked at first; 0, which is long ago, where that is not noted."""
    try:
        since = float(row["since"])
    except (TypeError, KeyError, ValueError, OverflowError):
        return 0.0
    return since if 0 <= since <= clock else 0.0


def _is_silent(row: Any) -> bool:  # noqa: ANN401  # JSON
    return row is not None and row.get("silent") is True


def _has_spoken(row: dict[str, Any], there: LivePeer) -> bool:
    """Whether something other than a handshake has come since the look before."""
    return row.get("handshake") == there.handshake and there.received != row.get("received")


def _trail(row: Any) -> Trail | None:  # noqa: ANN401  # JSON
    try:
        unanswered = row["unanswered"]
        return Trail(
            int(row["received"]),
            int(row["sent"]),
            None if unanswered is None else float(unanswered),
        )
    except (TypeError, KeyError, ValueError, OverflowError):
        return None


def _read(network: str) -> dict[str, Any]:
    try:
        found = read_json(read_file(_file(network), _MOST_BYTES))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) and all(map(_is_row, found.values())) else {}


def _is_row(row: object) -> bool:
    return isinstance(row, dict)


def _file(network: str) -> Path:
    return runtime_directory() / f"{network}.gateways"
