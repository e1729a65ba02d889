"""A log that nobody reads: lines are left out and counted, and nobody waits."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import pytest

from nmk.unread import never_wait

LINE = "a line of the log\n"
MANY = 10_000  # more than a pipe takes


class Pipe(NamedTuple):
    """Standard error as a pipe, and its other end."""

    reader: int
    writer: int

    def read(self) -> list[str]:
        """The lines that are in it."""
        said = b""
        os.set_blocking(self.reader, False)
        try:
            while part := os.read(self.reader, 1 << 20):
                said += part
        except BlockingIOError:
            pass
        return said.decode().splitlines(keepends=True)


@contextmanager
def unread() -> Iterator[Pipe]:
    """For as long as this goes on; not a fixture, as pytest changes the stream before a test."""
    ends = Pipe(*os.pipe())
    with os.fdopen(ends.writer, "w", closefd=False) as stream:
        before, sys.stderr = sys.stderr, stream
        try:
            never_wait(lambda lines: f"left out: {lines}")
            yield ends
        finally:
            sys.stderr = before
    os.close(ends.reader)
    os.close(ends.writer)


def test_what_has_no_room_is_counted() -> None:
    with unread() as pipe:
        for _ in range(MANY):
            sys.stderr.write(LINE)
        read = pipe.read()
        assert set(read) == {LINE}
        sys.stderr.write("again\n")
        assert pipe.read() == [f"left out: {MANY - len(read)}\n", "again\n"]
        assert os.get_blocking(pipe.writer), "our terminal is that of who started us"


def test_a_text_that_is_cut_spoils_no_line_after_it() -> None:
    with unread() as pipe:
        sys.stderr.write("x" * 1_000_000 + "\n")
        assert set("".join(pipe.read())) == {"x"}
        sys.stderr.write(LINE)
        assert pipe.read() == ["\n", "left out: 1\n", LINE]


def test_one_that_others_made_so_does_not_wait_either() -> None:
    with unread() as pipe:
        os.set_blocking(pipe.writer, False)
        sys.stderr.write(LINE * MANY)
        pipe.read()
        sys.stderr.write(LINE)
        assert pipe.read()[-2:] == [f"left out: {MANY}\n", LINE]


def test_a_reader_that_is_gone_is_an_error() -> None:
    with unread() as pipe:
        os.close(pipe.reader)
        with pytest.raises(BrokenPipeError):
            sys.stderr.write(LINE)
        os.dup2(pipe.writer, pipe.reader)  # for the end of the test


def test_a_full_disk_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    with Path("/dev/full").open("w") as full:
        monkeypatch.setattr(sys, "stderr", full)
        never_wait(str)
        with pytest.raises(OSError, match="No space"):
            sys.stderr.write(LINE)
