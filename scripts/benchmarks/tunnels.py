"""A view that becomes an interface."""

from __future__ import annotations

import json
from collections.abc import Iterable

from scripts.benchmarks.figures import Figure, Group, Values
from scripts.benchmarks.measure import Series
from scripts.benchmarks.stage import Stage, run_inside
from tests.lab import Host

FEW, MANY = 10, 1_000


def measure_tunnels(stage: Stage, rounds: Iterable[int]) -> Values:
    """On a real interface: by nmk, and the same by hand, in turns."""
    host = stage.machine("tunnels")
    wall = Series()
    few, many = _apply(host, FEW), {"one_more": 0.0}
    for _ in rounds:
        many = _apply(host, MANY)
        wall.add("nmk", many["by_nmk"])
        wall.add("hand", many["by_hand"])
    return {
        "apply-wall": wall.ratio("nmk", "hand"),
        "apply-commands": many["one_more"] / few["one_more"],
    }


def _apply(host: Host, peers: int) -> dict[str, float]:
    return dict(json.loads(run_inside(host, "tunnel", str(peers))))


TUNNELS = Group(
    (
        Figure(
            "apply-wall",
            "x",
            1.5,
            "time of 1,000 peers from the reply to the interface / of `wg setconf` and `ip -batch`",
        ),
        Figure("apply-commands", "x", 1.0, "commands for one more peer beside 1,000 / beside 10"),
    ),
    rounds=9,
    measure=measure_tunnels,
)
