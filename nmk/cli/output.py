"""What commands print: data on standard output, talk and errors on standard error.

Everything that is printed leaves by this module. What a controller or a machine said is among it,
so each line goes through `plain`, and JSON through `render_json`: nothing that moves a cursor, and
no line that is not ours.
"""

from __future__ import annotations

import codecs
import os
import sys
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from errno import EPIPE
from io import TextIOWrapper
from itertools import accumulate, chain, pairwise
from textwrap import wrap
from typing import Any, TextIO, TypeVar

import click

from nmk.core.text import call_by, plain, render_json
from nmk.errors import OutputFailed

Json = dict[str, Any]
Command = TypeVar("Command", bound=Callable[..., Any])
_GAP = 2  # columns between two of a table, as tabulate has them
_NARROWEST = 10  # characters that are left of a cell
_TIED = "\u00a0"  # a space that no line ends at; `plain` leaves none in a cell
_INDENT = 4  # of what stands under a row
FORMATS = ("table", "json", "name")
_mode: dict[str, str] = {}  # what -o said, so that an error leaves in the same form
_called: tuple[Callable[[], str], Collection[str]] = (lambda: "nmk", ())


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
    _mode["quiet"] = ""


def name_program(program: Callable[[], str], commands: Collection[str]) -> None:
    """Let hints name the program as it is started on this machine; asked when there is one."""
    global _called  # noqa: PLW0603  # one a process, as the streams
    _called = (program, commands)


def as_called(text: str) -> str:
    """A text with the commands of nmk in it as they are typed here."""
    program, commands = _called
    try:
        name = program()
    except OSError:  # no file can be opened, which is just what may have to be said
        name = "nmk"
    return call_by(text, name, commands)


def quiet_option(command: Command) -> Command:
    """`-q`, which silences `say`."""

    def silence(_ctx: click.Context, _param: click.Parameter, value: bool) -> None:
        if value:
            _mode["quiet"] = "yes"

    return click.option(
        "-q",
        "--quiet",
        is_flag=True,
        expose_value=False,
        callback=silence,
        help="Print data and errors alone.",
    )(command)


def is_quiet() -> bool:
    """Whether `-q` was given to a command with `quiet_option`."""
    return bool(_mode.get("quiet"))


def show(value: Json | list[Json], output: str, columns: Mapping[str, str], name: str) -> None:
    """Print an object or a list of them.

    `columns`: the table's headings and the fields under them; `name`: the field that `-o name`
    prints. JSON has every field.
    """
    names = [item[name] for item in (value if isinstance(value, list) else [value])]
    if output == "json":
        put_json(value)
    elif output == "name":
        put(*map(str, names))
    elif isinstance(value, list):
        show_table(list(columns), [[cell(i[f]) for f in columns.values()] for i in value])
    else:
        show_table([], list(_rows(value)))


def show_table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print aligned columns; headings only where there are rows or a person looks."""
    if not rows and not (sys.stdout and sys.stdout.isatty()):
        return
    put_text(f"{render_table(headings, rows)}\n")


def render_table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Aligned columns, a line a row."""
    from tabulate import tabulate

    cells = [[plain(text) for text in row] for row in rows]
    is_bounded = headings and rows and sys.stdout is not None and sys.stdout.isatty()
    folded: list[list[str]] = []
    if is_bounded:
        from shutil import get_terminal_size  # with all that it can unpack: too much for each start

        headings, cells, folded = _fit(list(headings), cells, get_terminal_size().columns)
    table = tabulate(cells, headings, tablefmt="plain", disable_numparse=True)
    if not folded:
        return table
    head, *lines = table.split("\n")
    under = zip(lines, folded, strict=True)
    return "\n".join([head, *chain.from_iterable([line, *more] for line, more in under)])


def _fit(
    headings: list[str], rows: list[list[str]], room: int
) -> tuple[list[str], list[list[str]], list[list[str]]]:
    """The table as it fits into so many columns, and the lines that stand under each row.

    The first column is never cut, the others as far as can be read; where that is not enough they
    are not cut, and the last ones go into lines of their own.
    """
    least = [len(h) + _GAP for h in headings]  # tabulate's least
    widths = [max(n, *map(len, c)) for n, c in zip(least, zip(*rows, strict=True), strict=True)]
    ends = [n - _GAP for n in accumulate(w + _GAP for w in widths)]  # where each column ends
    least = [max(n, min(w, _NARROWEST)) for n, w in zip(least, widths, strict=True)]
    least[0] = widths[0]
    if sum(least) + _GAP * (len(headings) - 1) > room:
        kept = max(1, sum(end <= room for end in ends))
        folded = [_fold(headings[kept:], row[kept:], room) for row in rows]
        return headings[:kept], [row[:kept] for row in rows], folded
    while sum(widths) + _GAP * (len(headings) - 1) > room:
        widths[max((i for i, w in enumerate(widths) if w > least[i]), key=widths.__getitem__)] -= 1
    more = "\u2026" if takes_unicode() else "~"
    cut = [
        [c if len(c) <= w else c[: w - 1] + more for c, w in zip(row, widths, strict=True)]
        for row in rows
    ]
    return headings, cut, []


def _fold(headings: list[str], cells: list[str], room: int) -> list[str]:
    """Cells with their headings as indented lines; those that say nothing are left out."""
    said = [
        f"{h.lower()}:{_TIED}{c}"
        for h, c in zip(headings, cells, strict=True)
        if c not in {"", "-"}
    ]
    indent = " " * _INDENT
    lines = wrap(
        "; ".join(said),
        max(room, _NARROWEST),
        initial_indent=indent,
        subsequent_indent=indent,
        break_long_words=False,
        break_on_hyphens=False,
    )
    return [line.replace(_TIED, " ") for line in lines]


def cell(value: object) -> str:
    """A value in a table."""
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list | tuple):
        return ", ".join(str(v) for v in value) or "-"
    return str(value)


def put(*lines: str) -> None:
    """Data: lines on standard output."""
    for line in lines:
        put_text(f"{plain(line)}\n")


def put_json(value: object, *, indent: int | None = 2) -> None:
    """Data: a value as JSON."""
    put_text(f"{to_json(value, indent=indent)}\n")


def to_json(value: object, *, indent: int | None = 2) -> str:
    """A value as JSON that standard output can show."""
    return render_json(value, indent=indent, is_ascii=not takes_unicode())


def put_text(text: str) -> None:
    """Data that is all our own, several lines and colours of it. Raises OutputFailed."""
    check_output()
    try:
        sys.stdout.write(text)
        sys.stdout.flush()
    except OSError as error:
        _discard(sys.stdout)
        raise OutputFailed(
            f"standard output cannot be written: {error.strerror}", broken=error.errno == EPIPE
        ) from None


def check_output() -> None:
    """Raises OutputFailed where standard output is closed: what is printed would be lost."""
    if sys.stdout is None or sys.stdout.closed:
        raise OutputFailed("standard output is closed")


def takes_unicode() -> bool:
    """Whether standard output takes every character."""
    encoding = getattr(sys.stdout, "encoding", None) or "ascii"
    return codecs.lookup(encoding).name.startswith("utf")


def is_watched() -> bool:
    """Whether a person reads what goes to standard error."""
    return sys.stderr is not None and sys.stderr.isatty()


def is_shown() -> bool:
    """Whether standard output is a terminal that knows colours."""
    return sys.stdout is not None and sys.stdout.isatty() and os.environ.get("TERM") != "dumb"


def open_streams() -> None:
    """Let no character that a terminal lacks stop the output: it is escaped."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def _discard(stream: TextIO) -> None:
    """Send what is left to be written nowhere, or Python would try again at its end."""
    with suppress(OSError, ValueError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())
        os.close(nowhere)


def say(*lines: str, quiet: bool = False) -> None:
    """Talk: lines on standard error."""
    if not (quiet or _mode.get("quiet")):
        say_raw("".join(f"{as_called(plain(line))}\n" for line in lines))


def say_raw(text: str) -> None:
    """Text that is all our own on standard error. Where that cannot be written nobody listens."""
    if sys.stderr is None:
        return
    try:
        sys.stderr.write(text)
        sys.stderr.flush()
    except OSError:
        _discard(sys.stderr)


def report(*lines: str) -> None:
    """What was done, for whoever sits before a terminal; scripts have the exit code."""
    if is_watched():
        say(*lines)


def say_text(text: str, *, quiet: bool = False) -> None:
    """Talk: a text of several lines that are all our own."""
    say(*text.split("\n"), quiet=quiet)


def fail(code: str, message: str, hint: str) -> None:
    """An error: what is wrong, then the next command to try."""
    hint = as_called(hint)
    if _mode.get("output") == "json":
        error = {"error": code, "message": message, "hint": hint}
        lines = [render_json(error, indent=None, is_ascii=True)]
    else:
        lines = [f"nmk: {message}", f"  try: {hint}"]
    say_raw("".join(f"{plain(line)}\n" for line in lines))


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
