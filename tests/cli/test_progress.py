"""How far each of several things is: kept current on a terminal, line by line elsewhere."""

from __future__ import annotations

import io
import os
import shutil
import sys

import pytest

from nmk.cli.progress import Progress


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def screen(text: str) -> list[str]:
    """What a terminal shows after the text: lines, cursor up, end of line cleared."""
    lines: list[str] = []
    row = 0
    for part in text.replace("\x1b[K", "").splitlines():
        written = part
        if part.startswith("\x1b["):
            up, _, written = part.removeprefix("\x1b[").partition("A")
            row -= int(up)
        lines[row : row + 1] = [written]
        row += 1
    return lines


@pytest.fixture(autouse=True)
def size(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "get_terminal_size", lambda: os.terminal_size((30, 4)))


def test_a_terminal_shows_where_each_thing_is_now(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    progress = Progress(["root@web", "ada@n"], live=True)
    assert screen(terminal.getvalue()) == ["root@web  waiting", "ada@n     waiting"]
    progress.show("ada@n", "copying")
    progress.show("root@web", "a step that is too long for the line")
    progress.show("ada@n", "joined as nas")
    assert screen(terminal.getvalue()) == [
        "root@web  a step that is too ",
        "ada@n     joined as nas",
    ]


@pytest.mark.parametrize(
    ("stream", "names", "live"),
    [
        (io.StringIO, ["web"], True),
        (Terminal, ["web"], False),
        (Terminal, ["web", "nas", "db", "more"], True),
    ],
    ids=["piped", "shared", "too-many"],
)
def test_elsewhere_it_is_a_line_a_step(
    monkeypatch: pytest.MonkeyPatch, stream: type[io.StringIO], names: list[str], live: bool
) -> None:
    written = stream()
    monkeypatch.setattr(sys, "stderr", written)
    progress = Progress(names, live=live)
    progress.show("web", "copying")
    progress.show("web", "joined")
    assert written.getvalue() == "web: copying\nweb: joined\n"
