"""One node of many changes, and all others learn of it."""

from __future__ import annotations

from collections.abc import Iterable

from scripts.benchmarks.figures import Figure, Group, Values
from scripts.benchmarks.measure import Series
from scripts.benchmarks.population import facts
from scripts.benchmarks.server import CHECK_IN
from scripts.benchmarks.stage import MANY, Stage

ROUNDS = 20
CHANGED = 17  # the number of the one that changes


def measure_change(stage: Stage, rounds: Iterable[int]) -> Values:
    """Every agent once learns of the change and once finds nothing new, batch by batch in turns."""
    controller = stage.controller(MANY)
    before = controller.look()
    old = controller.at
    port = before["network"]["listen-port"] + 1
    controller.change(CHANGED, facts(CHANGED, listen_port=port))
    controller.look()
    cpu, most_bytes = Series(), 0
    batch = MANY // ROUNDS
    for number in rounds:
        numbers = range(number * batch, (number + 1) * batch)
        messages = controller.crowd.check_ins(old, numbers)
        told = controller.post(CHECK_IN, [m.body for m in messages])
        for message, answer in zip(messages, told.answers, strict=True):
            view = message.open(answer)
            [[entry]] = view["peers"]
            assert (view["full"], entry["port"]) == (False, port)
            most_bytes = max(most_bytes, len(answer))
        cpu.add("told", told.spent.cpu)
        cpu.add("idle", controller.check_in(numbers).cpu)
    return {"change-bytes": most_bytes, "change-cpu": cpu.ratio("told", "idle")}


CHANGE = Group(
    (
        Figure("change-bytes", "B", 1000, "reply that tells an agent of one change, 10,000 nodes"),
        Figure("change-cpu", "x", 1.5, "CPU of telling all of one change / of a round unchanged"),
    ),
    rounds=ROUNDS,
    measure=measure_change,
)
