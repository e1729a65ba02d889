"""The command line: which figures, and how they are shown."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import TYPE_CHECKING

import click
from tabulate import tabulate

from scripts.benchmarks.figures import Figure, Group, Result, Watch, run_groups

if TYPE_CHECKING:
    from scripts.benchmarks.stage import Stage


def make_command(
    groups: Sequence[Group], make_stage: Callable[[], AbstractContextManager[Stage]]
) -> click.Command:
    """The command that measures figures of these groups."""
    known = {f.name: f for g in groups for f in g.figures}

    @click.command(epilog="Example: scripts/bench join-cpu view-cpu")
    @click.argument("names", nargs=-1, metavar="[NAME]...", type=click.Choice(list(known)))
    @click.option("--json", "as_json", is_flag=True, help="Print JSON.")
    @click.option("--list", "listed", is_flag=True, help="Measure nothing, list what there is.")
    def bench(names: tuple[str, ...], as_json: bool, listed: bool) -> None:
        """Measure the figures named, or all. Exit code 1 where one does not hold."""
        if listed:
            click.echo(tabulate(map(_described, known.values()), ("FIGURE", "LIMIT", "WHAT")))
            return
        with make_stage() as stage:
            results = run_groups(groups, names, stage, _progress)
        click.echo(render_json(results) if as_json else render_table(results))
        sys.exit(0 if all(r.holds for r in results) else 1)

    return bench


def render_json(results: Iterable[Result]) -> str:
    """The results for programs."""
    figures = [
        {
            "name": r.figure.name,
            "value": round(r.value, 4),
            "unit": r.figure.unit,
            "limit": r.figure.limit,
            "holds": r.holds,
        }
        for r in results
    ]
    return json.dumps({"figures": figures}, indent=2)


def render_table(results: Iterable[Result]) -> str:
    """The results for people."""
    rows = [
        (r.figure.name, _number(r.value), *_limit(r.figure), "yes" if r.holds else "NO")
        for r in results
    ]
    return tabulate(
        rows,
        ("FIGURE", "VALUE", "LIMIT", "UNIT", "HOLDS"),
        disable_numparse=True,
        colalign=("left", "right", "right", "left", "left"),
    )


@contextmanager
def _progress(total: int) -> Iterator[Watch]:
    """A bar on standard error over so many rounds, if that is a terminal."""
    hidden = not sys.stderr.isatty()
    with click.progressbar(length=total, label="measuring", file=sys.stderr, hidden=hidden) as bar:

        def watch(rounds: Iterable[int]) -> Iterator[int]:
            bar.render_progress()
            for number in rounds:
                yield number
                bar.update(1)

        yield watch


def _described(figure: Figure) -> tuple[str, str, str]:
    limit, unit = _limit(figure)
    return figure.name, f"{limit} {unit}" if limit != "-" else "-", figure.help


def _limit(figure: Figure) -> tuple[str, str]:
    return "-" if figure.limit is None else _number(figure.limit), figure.unit


def _number(value: float) -> str:
    """At most three digits that say something, never fewer before the point."""
    return f"{value:,.0f}" if value >= 1000 else f"{value:.3g}"
