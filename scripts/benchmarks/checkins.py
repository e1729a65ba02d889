"""Check-ins that find nothing changed: what controllers do all day."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial

from scripts.benchmarks.figures import Figure, Group, Values
from scripts.benchmarks.measure import Series, Spent
from scripts.benchmarks.server import CHECK_IN, Controller
from scripts.benchmarks.stage import MANY, SIZES, Stage

REQUESTS = 100  # each side's in a round


def measure_check_ins(stage: Stage, rounds: Iterable[int]) -> Values:
    """Controllers of several sizes and a bare server get the same number of requests in turns."""
    biggest = stage.controller(MANY)
    [sample] = biggest.crowd.check_ins(biggest.at, [0])
    bare = stage.bare(size=len(biggest.ask(CHECK_IN, sample)[0]))
    sides: dict[str, Callable[[int], Spent]] = {
        name: partial(_check_in, stage.controller(nodes)) for name, nodes in SIZES.items()
    }
    sides["bare"] = lambda _: bare.post(CHECK_IN, [sample.body] * REQUESTS).spent
    cpu, rate = Series(), Series()
    for number in rounds:
        for name in rotated(list(sides), number):
            spent = sides[name](number)
            cpu.add(name, spent.cpu)
            rate.add(name, REQUESTS / spent.wall)
    return {
        **{f"checkin-cpu-{name}": cpu.ratio(name, "bare") for name in SIZES},
        "checkin-growth": max(cpu.ratio(a, b) for a in SIZES for b in SIZES),
        "checkin-rate": rate.median("10k"),
        "bare-rate": rate.median("bare"),
    }


def _check_in(controller: Controller, number: int) -> Spent:
    """The next agents in the row check in."""
    first = number * REQUESTS
    return controller.check_in(n % len(controller.crowd) for n in range(first, first + REQUESTS))


def rotated(names: list[str], by: int) -> list[str]:
    """The names in another order each round: whoever comes after whom must not matter."""
    start = by % len(names)
    return names[start:] + names[:start]


CHECK_INS = Group(
    (
        *(
            Figure(
                f"checkin-cpu-{name}",
                "x",
                1.3,
                f"CPU of an unchanged check-in, {nodes:,} nodes / of a bare Waitress request",
            )
            for name, nodes in SIZES.items()
        ),
        Figure("checkin-growth", "x", 1.1, "the dearest of these three / the cheapest"),
        Figure("checkin-rate", "per s", None, "unchanged check-ins, 10,000 nodes"),
        Figure("bare-rate", "per s", None, "requests to a bare Waitress, side by side"),
    ),
    rounds=240,
    measure=measure_check_ins,
)
