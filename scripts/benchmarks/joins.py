"""Machines that join a network that is small, or large."""

from __future__ import annotations

from collections.abc import Iterable

from scripts.benchmarks.figures import Figure, Group, Values
from scripts.benchmarks.measure import Series
from scripts.benchmarks.server import JOIN, Controller
from scripts.benchmarks.stage import MANY, Stage

FEW = 10
JOINS = 5  # each side's in a round; an address may join 300 times before it is slowed down


def measure_joins(stage: Stage, rounds: Iterable[int]) -> Values:
    """Joins over HTTP, with all that the controller and its database do for one."""
    small, large = stage.controller(FEW), stage.controller(MANY)
    cpu = Series()
    for _ in rounds:
        cpu.add("small", _join(small))
        cpu.add("large", _join(large))
    return {"join-cpu": cpu.ratio("large", "small")}


def _join(controller: Controller) -> float:
    total = 0.0
    for _ in range(JOINS):
        message = controller.crowd.join()
        answer, spent = controller.ask(JOIN, message)
        assert message.open(answer)["full"]
        total += spent.cpu
    return total


JOINING = Group(
    (Figure("join-cpu", "x", 1.5, "CPU of joining as node 10,001 to 10,100 / as 11 to 110"),),
    rounds=20,
    measure=measure_joins,
)
