"""What a check-in costs a machine whose controller, or path to it, is hostile."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from unittest.mock import patch

from nmk.agent import state
from scripts.benchmarks.figures import Figure, Group, Values
from scripts.benchmarks.lies import HONEST, RANGES, empty_view, lies
from scripts.benchmarks.stage import Stage
from tests.hostile.liar import Liar

_ROOT = Path(__file__).parents[2]
Spent = dict[str, Any]


class Machine:
    """One that has joined. `lies`: what its controller may answer with."""

    def __init__(self, liar: Liar, directory: Path) -> None:
        self._liar, self._directory, self._victim = liar, directory, liar.victim()
        self._victim.check_in()
        self.lies = lies(empty_view(self._victim.me.id))

    def check_in(self, lie: str | None = None) -> Spent:
        """What a check-in costs that is answered so, and how it ends; without a lie, honestly."""
        state.save(self._victim.me)
        said = self.lies[lie]() if lie else b""

        def answer(request: Any, honest: Any) -> Any:  # noqa: ANN401  # as Lie
            if not said:
                return honest
            return said if said.startswith(b"HTTP/") else request.sealed(said)

        self._liar.lie = answer
        done = subprocess.run(
            [sys.executable, "-m", "scripts.benchmarks.inside.taking"],
            cwd=_ROOT,
            env={**os.environ, "NMK_STATE_DIR": str(self._directory)},
            capture_output=True,
            text=True,
            check=True,
            timeout=120,
        )
        spent: Spent = json.loads(done.stdout)
        return spent


@contextmanager
def machine() -> Iterator[Machine]:
    """A machine and its controller, in a directory that goes."""
    with TemporaryDirectory() as name, patch.dict(os.environ, {"NMK_STATE_DIR": f"{name}/state"}):
        (Path(name) / "state").mkdir()
        with Liar(Path(name), cidrs=RANGES) as liar:
            yield Machine(liar, Path(name) / "state")


def measure_hostile(_stage: Stage, rounds: Iterable[int]) -> Values:
    """The dearest of all replies, beside an ordinary check-in and beside an honest large view."""
    memory, cpu = 0.0, 0.0
    with machine() as host:
        for _ in rounds:
            ordinary, honest = host.check_in(), host.check_in(HONEST)
            for lie in host.lies:
                spent = host.check_in(lie)
                memory = max(memory, spent["peak"] - ordinary["peak"])
                cpu = max(cpu, spent["cpu"] / honest["cpu"])
    return {"hostile-memory": memory / 1e6, "hostile-cpu": cpu}


HOSTILE = Group(
    (
        Figure(
            "hostile-memory",
            "MB",
            64.0,
            "most memory of a check-in, whatever the reply, above an ordinary one",
        ),
        Figure(
            "hostile-cpu",
            "x",
            3.0,
            "most CPU of a check-in, whatever the reply, / of one that takes in 10,000 nodes",
        ),
    ),
    rounds=1,
    measure=measure_hostile,
)
