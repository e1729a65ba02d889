"""What commands print: data on standard output, talk and errors on standard error."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from typing import Any, TypeVar

import click

Json = dict[str, Any]
Command = TypeVar("Command", bound=Callable[..., Any])
FORMATS = ("table", "json", "name")
_mode: dict[str, str] = {}  # what -o said, so that an error leaves in the same form


def output_option(command: Command) -> Command:
    """`-o table|json|name`, as the parameter `output`."""
    return _output_option(FORMATS)(command)


def report_option(command: Command) -> Command:
    """`-o table|json`, for what has no names."""
    return _output_option(FORMATS[:2])(command)


def _output_option(formats: Sequence[str]) -> Callable[[Command], Command]:
    return click.option(
        "-o",
        "--output",
        type=click.Choice(formats),
        default="table",
        show_default=True,
        help="Form of the output.",
    )


def expect_json(args: Sequence[str]) -> None:
    """Let errors leave as JSON where the arguments ask for it, also when they do not parse."""
    pairs = set(pairwise(args))
    asked = pairs & {("-o", "json"), ("--output", "json")} or {*args} & {"-ojson", "--output=json"}
    _mode["output"] = "json" if asked else ""


def show(value: Json | list[Json], output: str, columns: Mapping[str, str], name: str) -> None:
    """Print an object or a list of them.

    `columns`: the table's headings and the fields under them; `name`: the field that `-o name`
    prints. JSON has every field.
    """
    if output == "json":
        click.echo(json.dumps(value, indent=2, ensure_ascii=False))
    elif output == "name":
        for item in value if isinstance(value, list) else [value]:
            click.echo(item[name])
    elif isinstance(value, list):
        show_table(list(columns), [[cell(i.get(f)) for f in columns.values()] for i in value])
    else:
        rows = [[label, cell(content)] for label, content in _flat(value)]
        show_table([], rows)


def show_table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print aligned columns; headings only where there are rows or a person looks."""
    if not rows and not sys.stdout.isatty():
        return
    click.echo(render_table(headings, rows))


def render_table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Aligned columns."""
    from tabulate import tabulate

    return tabulate(rows, headings, tablefmt="plain", disable_numparse=True)


def cell(value: object) -> str:
    """A value in a table."""
    if value is None or value == []:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list):
        return ", ".join(str(v) for v in value)
    return str(value)


def say(text: str, *, quiet: bool = False) -> None:
    """Talk: a line on standard error."""
    if not quiet:
        click.echo(text, err=True)


def fail(code: str, message: str, hint: str) -> None:
    """An error: what is wrong, then the next command to try."""
    if _mode.get("output") == "json":
        say(json.dumps({"error": code, "message": message, "hint": hint}))
    else:
        say(f"nmk: {message}\n  try: {hint}")


def _flat(value: Json) -> list[tuple[str, object]]:
    pairs: list[tuple[str, object]] = []
    for name, content in value.items():
        if isinstance(content, dict):
            pairs += list(content.items())
        else:
            pairs.append((name, content))
    return pairs
