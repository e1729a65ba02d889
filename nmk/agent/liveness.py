"""Which of the gateways that stand in for one another do not answer, as seen from here.

Noted where nothing outlives a reboot, from one look to the next; nothing is noted, or written,
where no two gateways route one range.
"""

from __future__ import annotations

import json
import time
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

from nmk.agent.membership import Membership
from nmk.agent.places import runtime_directory
from nmk.core.health import Trail, follow, judge
from nmk.core.routes import competitors
from nmk.files import write_private
from nmk.system.dump import Dump, LivePeer

_SILENT = {"failed", "waiting"}  # of core.health's states


def look(me: Membership, dump: Dump | None) -> None:
    """Take note of how the gateways are. `dump`: what WireGuard says of the interface."""
    rivals = competitors(me.known.view) if me.known else set()
    if not rivals:
        forget(me.network)
        return
    if dump is None or me.known is None:
        return
    before = _read(me.network)
    now: dict[str, Any] = {}
    for peer_id in sorted(rivals):
        there = dump.peers.get(me.known.view.peers[peer_id].key)
        if there:
            now[peer_id] = _follow(before.get(peer_id), there)
    if now != before:
        with suppress(OSError):
            runtime_directory().mkdir(mode=0o755, parents=True, exist_ok=True)
            write_private(_file(me.network), json.dumps(now).encode())


def dead(network: str) -> set[str]:
    """The ids of gateways that did not answer at the last look."""
    return {peer_id for peer_id, row in _read(network).items() if row.get("silent") is True}


def forget(network: str) -> None:
    """There is nothing to choose any more."""
    with suppress(OSError):
        _file(network).unlink()
        runtime_directory().rmdir()


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
    return {**asdict(trail), "silent": health.state in _SILENT}


def _trail(row: Any) -> Trail | None:  # noqa: ANN401  # JSON
    try:
        unanswered = row["unanswered"]
        return Trail(
            int(row["received"]),
            int(row["sent"]),
            None if unanswered is None else float(unanswered),
        )
    except (TypeError, KeyError, ValueError):
        return None


def _read(network: str) -> dict[str, Any]:
    try:
        found = json.loads(_file(network).read_bytes())
    except (OSError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) and all(map(_is_row, found.values())) else {}


def _is_row(row: object) -> bool:
    return isinstance(row, dict)


def _file(network: str) -> Path:
    return runtime_directory() / f"{network}.gateways"
