"""The agent: `nmk checkin` of a machine where nothing has changed, as cron runs it."""

from __future__ import annotations

import json
from collections.abc import Iterable

from scripts.benchmarks.figures import Figure, Group, Values
from scripts.benchmarks.measure import Series
from scripts.benchmarks.stage import Stage, run_inside, unpacked

IMPORTS = "import click, nacl.public, http.client"


def measure_agent(stage: Stage, rounds: Iterable[int]) -> Values:
    """The installed file, with a tunnel and a controller, and its bare imports, in turns."""
    mesh = stage.mesh
    token = mesh.token("--uses", "2")
    one, _ = (mesh.join(mesh.machine(name), token=token) for name in ("one", "two"))
    one.run("nmk", "checkin")
    commands = [
        {"command": ["nmk", "checkin", "--quiet"], "env": {}},
        {"command": ["python3", "-c", IMPORTS], "env": {"PYTHONPATH": unpacked(one)}},
    ]
    wall, peak = Series(), Series()
    for _ in rounds:
        checkin, imports = json.loads(run_inside(one, "stopwatch", stdin=json.dumps(commands)))
        wall.add("checkin", checkin["wall"])
        wall.add("imports", imports["wall"])
        peak.add("checkin", checkin["peak"] / 1e6)
    return {
        "agent-wall": wall.ratio("checkin", "imports"),
        "agent-memory": peak.median("checkin"),
    }


AGENT = Group(
    (
        Figure("agent-wall", "x", 3.0, f"time of an unchanged `nmk checkin` / of `{IMPORTS}`"),
        Figure("agent-memory", "MB", 35.0, "most memory of an unchanged `nmk checkin`"),
    ),
    rounds=25,
    measure=measure_agent,
)
