"""The controller's memory."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial

from scripts.benchmarks.figures import Figure, Group, Values
from scripts.benchmarks.measure import resident_bytes
from scripts.benchmarks.stage import SIZES, Stage

BASE, PER_NODE = 80e6, 2.5e3  # bytes


def measure_memory(name: str, nodes: int, stage: Stage, rounds: Iterable[int]) -> Values:
    """What is in RAM once every node has checked in, and one has asked for the whole view."""
    [megabytes] = [resident_bytes(stage.controller(nodes).pid) / 1e6 for _ in rounds]
    return {name: megabytes}


def _group(size: str, nodes: int) -> Group:
    name = f"memory-{size}"
    help_text = f"RAM of the controller when {nodes:,} nodes have checked in"
    limit = (BASE + nodes * PER_NODE) / 1e6
    figure = Figure(name, "MB", limit, help_text)
    return Group((figure,), rounds=1, measure=partial(measure_memory, name, nodes))


MEMORY = tuple(_group(size, nodes) for size, nodes in SIZES.items())
