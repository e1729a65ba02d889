"""What commands print: data on standard output, talk and errors on standard error.

What a controller or a machine said is among it, so each line leaves by `plain`: nothing that
moves a cursor, and no line that is not ours.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
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
    names = [item[name] for item in (value if isinstance(value, list) else [value])]
    if output == "json":
        click.echo(json.dumps(value, indent=2, ensure_ascii=False))
    elif output == "name":
        for found in names:
            put(str(found))
    elif isinstance(value, list):
        show_table(list(columns), [[cell(i[f]) for f in columns.values()] for i in value])
    else:
        show_table([], list(_rows(value)))


def show_table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print aligned columns; headings only where there are rows or a person looks."""
    if not rows and not sys.stdout.isatty():
        return
    click.echo(render_table(headings, rows))


def render_table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Aligned columns, a line a row."""
    from tabulate import tabulate

    cells = [[plain(text) for text in row] for row in rows]
    return tabulate(cells, headings, tablefmt="plain", disable_numparse=True)


def cell(value: object) -> str:
    """A value in a table."""
    if value is None or value == []:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list):
        return ", ".join(str(v) for v in value)
    return str(value)


def plain(text: str) -> str:
    """A text as one line that a terminal takes for nothing else: what is not printed is escaped."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def put(line: str) -> None:
    """Data: a line on standard output."""
    click.echo(plain(line))


def say(*lines: str, quiet: bool = False) -> None:
    """Talk: lines on standard error."""
    if not quiet:
        click.echo("\n".join(map(plain, lines)), err=True)


def say_text(text: str, *, quiet: bool = False) -> None:
    """Talk: a text of several lines that are all our own."""
    say(*text.split("\n"), quiet=quiet)


def fail(code: str, message: str, hint: str) -> None:
    """An error: what is wrong, then the next command to try."""
    if _mode.get("output") == "json":
        say(json.dumps({"error": code, "message": message, "hint": hint}))
    else:
        say(f"nmk: {message}", f"  try: {hint}")


def _rows(value: Json) -> Iterator[tuple[str, str]]:
    """An object's fields, a tuple as a line an item."""
    for label, content in _flat(value):
        lines = content if isinstance(content, tuple) else (content,)
        for number, line in enumerate(lines):
            yield ("" if number else label), cell(line)


def _flat(value: Json) -> list[tuple[str, object]]:
    pairs: list[tuple[str, object]] = []
    for name, content in value.items():
        if isinstance(content, dict):
            pairs += list(content.items())
        else:
            pairs.append((name, content))
    return pairs
