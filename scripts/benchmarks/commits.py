"""One node that reports changes as fast as it can: what that costs the database and the others."""

from __future__ import annotations

from collections.abc import Iterable

from scripts.benchmarks.figures import Figure, Group, Values
from scripts.benchmarks.population import facts
from scripts.benchmarks.server import CHECK_IN
from scripts.benchmarks.stage import SIZES, Stage

REPORTS = 500
HOSTILE = 13  # the number of the node
_FIRST_SEQ, _FIRST_PORT = 1000, 20_000


def measure_commits(stage: Stage, rounds: Iterable[int]) -> Values:
    """The commits that come of reports one after the other, in less than a minute."""
    controller = stage.controller(SIZES["100"])
    commits = 0
    for _ in rounds:
        before = controller.look()["at"][0]
        for number in range(REPORTS):
            changed = facts(HOSTILE, _FIRST_PORT + number)
            report = controller.crowd.report(controller.at, HOSTILE, _FIRST_SEQ + number, changed)
            controller.ask(CHECK_IN, report)
        commits = controller.look()["at"][0] - before
    return {"node-commits": commits}


COMMITS = Group(
    (
        Figure(
            "node-commits", "per min", 125, "commits that one node can cause in its first minute"
        ),
    ),
    rounds=1,
    measure=measure_commits,
)
