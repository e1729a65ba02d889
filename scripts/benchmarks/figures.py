"""What a figure is, and how figures are measured: in groups that share their preparations."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from scripts.benchmarks.stage import Stage

Values = Mapping[str, float]
Measure = Callable[["Stage", Iterable[int]], Values]
Watch = Callable[[Iterable[int]], Iterator[int]]
Progress = Callable[[int], AbstractContextManager[Watch]]


@dataclass(frozen=True, slots=True)
class Figure:
    """One number. `limit`: the most it may be; None where it is only reported."""

    name: str
    unit: str
    limit: float | None
    help: str


@dataclass(frozen=True, slots=True)
class Group:
    """Figures that one function measures, in `rounds` rounds. It is given these to walk through."""

    figures: tuple[Figure, ...]
    rounds: int
    measure: Measure


@dataclass(frozen=True, slots=True)
class Result:
    """A figure as it was measured."""

    figure: Figure
    value: float

    @property
    def holds(self) -> bool:
        """Whether the value is within the limit."""
        return self.figure.limit is None or self.value <= self.figure.limit


def run_groups(
    groups: Iterable[Group], names: Iterable[str], stage: Stage, progress: Progress
) -> list[Result]:
    """The results of the figures named, of all without a name; only groups with one are run."""
    wanted = set(names)
    chosen = [g for g in groups if not wanted or wanted & {f.name for f in g.figures}]
    results = []
    with progress(sum(g.rounds for g in chosen)) as watch:
        for group in chosen:
            values = group.measure(stage, watch(range(group.rounds)))
            results += [
                Result(f, values[f.name]) for f in group.figures if not wanted or f.name in wanted
            ]
    return results
