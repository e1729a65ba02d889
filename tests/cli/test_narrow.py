"""What a narrow terminal shows: names whole, no line that wraps, nothing lost."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nmk.cli import gateway, output
from nmk.cli.machine_status import render_status
from nmk.cli.main import nmk
from tests.cli.inprocess import Screen
from tests.golden.compare import check_golden

COLUMNS = 60
STATUS = json.loads((Path(__file__).parent.parent / "seeing/status.json").read_text())
GATEWAY: dict[str, Any] = {
    "node": "office",
    "role": "egress",
    "ranges": ["192.168.1.0/24 as 10.201.1.0/24", "192.168.50.0/24"],
    "nat": "auto",
    "interface": None,
    "metric": 100,
    "called_at": None,
    "clients": None,
    "state": "online",
    "serves": "yes",
}
GATEWAYS: list[dict[str, Any]] = [
    GATEWAY,
    {
        **GATEWAY,
        "node": "a-node-with-a-rather-long-name-of-its-own",
        "role": "ingress",
        "ranges": [],
        "called_at": "vpn.example.org:51820",
        "clients": 12,
        "serves": "no: nft is not installed",
    },
]


@contextmanager
def terminal(columns: int = COLUMNS) -> Iterator[Screen]:
    """Standard output is a terminal of so many columns."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("COLUMNS", str(columns))
        made = Screen()
        patch.setattr(sys, "stdout", made)
        yield made


def test_gateways() -> None:
    with terminal() as screen:
        output.show(GATEWAYS, "table", gateway.COLUMNS, "node")
    shown = screen.getvalue()
    check_golden("narrow-gateways.txt", shown)
    assert max(map(len, shown.splitlines())) <= COLUMNS


def test_status() -> None:
    with terminal():
        shown = render_status(STATUS, "table") + "\n"
    check_golden("narrow-status.txt", shown)
    for network in STATUS:
        for peer in network["peers"]:
            [line] = [line for line in shown.splitlines() if line.startswith(f"{peer['name']}  ")]
            assert len(line) <= COLUMNS


@settings(max_examples=200, deadline=None)
@given(
    widths=st.lists(st.tuples(st.integers(1, 12), st.integers(0, 40)), min_size=1, max_size=9),
    room=st.integers(20, 120),
)
def test_any_table(widths: list[tuple[int, int]], room: int) -> None:
    """The first cell of a row is whole, and a line is too long only where that alone is."""
    headings = [chr(65 + i) * heading for i, (heading, _) in enumerate(widths)]
    row = [chr(97 + i) * width for i, (_, width) in enumerate(widths)]
    with terminal(room):
        lines = output.render_table(headings, [row]).split("\n")
    assert lines[1].startswith(row[0])
    cut = "\u2026" in lines[1]
    longest = max(len(h) + len(c) for h, c in zip(headings, row, strict=True))
    assert all(len(line.rstrip()) <= max(room, longest + len("    : ;")) for line in lines)
    assert cut or all(cell in "\n".join(lines) for cell in row)


def commands(command: click.Command, *words: str) -> Iterator[tuple[str, ...]]:
    """All commands, as words."""
    yield words
    if isinstance(command, click.Group):
        context = click.Context(command)
        for name in command.list_commands(context):
            inner = command.get_command(context, name)
            assert inner
            yield from commands(inner, *words, name)


@pytest.mark.parametrize("words", list(commands(nmk)), ids=" ".join)
def test_help(words: tuple[str, ...]) -> None:
    with terminal() as screen:
        nmk.main([*words, "--help"], prog_name="nmk", standalone_mode=False)
    lines = screen.getvalue().splitlines()
    assert [line for line in lines if len(line) > COLUMNS and "://" not in line] == []
    assert any(line.startswith("  Example: nmk ") for line in lines)
