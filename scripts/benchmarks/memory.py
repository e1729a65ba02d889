"""The controller's memory."""

from __future__ import annotations

from collections.abc import Iterable

from scripts.benchmarks.figures import Figure, Group, Values
from scripts.benchmarks.measure import resident_bytes
from scripts.benchmarks.stage import SIZES, Stage

BASE, PER_NODE = 80e6, 2.5e3  # bytes


def measure_memory(stage: Stage, rounds: Iterable[int]) -> Values:
    """What is in RAM once every node has checked in, and one has asked for the whole view."""
    sizes = list(SIZES.items())
    return {
        f"memory-{name}": resident_bytes(stage.controller(nodes).pid) / 1e6
        for _, (name, nodes) in zip(rounds, sizes, strict=True)
    }


MEMORY = Group(
    tuple(
        Figure(
            f"memory-{name}",
            "MB",
            (BASE + nodes * PER_NODE) / 1e6,
            f"RAM of the controller, {nodes:,} nodes having checked in",
        )
        for name, nodes in SIZES.items()
    ),
    rounds=len(SIZES),
    measure=measure_memory,
)
