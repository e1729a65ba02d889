"""Check-ins that find nothing changed: what controllers do all day."""

from __future__ import annotations

from collections.abc import Iterable

from scripts.benchmarks.figures import Figure, Group, Values
from scripts.benchmarks.measure import Series
from scripts.benchmarks.server import CHECK_IN
from scripts.benchmarks.stage import MANY, SIZES, Stage

REQUESTS = 100  # each side's in a round


def measure_check_ins(stage: Stage, rounds: Iterable[int]) -> Values:
    """Controllers of several sizes and a bare server get the same number of requests in turns."""
    controllers = {name: stage.controller(nodes) for name, nodes in SIZES.items()}
    biggest = stage.controller(MANY)
    [sample] = biggest.crowd.check_ins(biggest.at, [0])
    bare = stage.bare(size=len(biggest.ask(CHECK_IN, sample)[0]))
    cpu, rate = Series(), Series()
    for number in rounds:
        for name, controller in controllers.items():
            first = number * REQUESTS
            spent = controller.check_in(
                n % len(controller.crowd) for n in range(first, first + REQUESTS)
            )
            cpu.add(name, spent.cpu)
            rate.add(name, REQUESTS / spent.wall)
        spent = bare.post(CHECK_IN, [sample.body] * REQUESTS).spent
        cpu.add("bare", spent.cpu)
        rate.add("bare", REQUESTS / spent.wall)
    return {
        **{f"checkin-cpu-{name}": cpu.ratio(name, "bare") for name in SIZES},
        "checkin-growth": max(cpu.ratio(a, b) for a in SIZES for b in SIZES),
        "checkin-rate": rate.median("10k"),
        "bare-rate": rate.median("bare"),
    }


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
    rounds=120,
    measure=measure_check_ins,
)
