"""JSON from outside, read in pieces: what is not wanted is never a value in memory.

`json.loads` makes up to 25 times as much of a text as it has bytes. Here each piece is bounded
before it becomes a value, so that memory is bounded by what the caller keeps.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from nmk.core.nesting import read_first

MOST_PIECE = 16 * 1024  # bytes; an entry with all that one may have has half of it
_SPACE = re.compile(r"[ \t\n\r]*")


class Pieces:
    """A JSON text, taken from left to right. All methods raise ValueError where it is another.

    The bytes are read as Latin-1, one character each whatever comes: what stands between pieces is
    ASCII, and texts with more in them are nothing that an agent takes.
    """

    def __init__(self, body: bytes) -> None:
        self._text = body.decode("latin-1")
        self._at = 0

    def fields(self) -> Iterator[str]:
        """The names of an object's fields; each one's value must be taken before the next.

        None may come twice: who bounds how many there are would not notice.
        """
        names: set[str] = set()
        for _ in self._members("{", "}"):
            name = self.value()
            if not isinstance(name, str):
                raise ValueError("a field without a name")  # noqa: TRY004  # of the text, not of ours
            if name in names:
                raise ValueError(f"a field comes twice: {name[:40]}")
            names.add(name)
            self._take(":")
            yield name

    def elements(self) -> Iterator[None]:
        """Once for each element of an array, which must be taken before the next."""
        return self._members("[", "]")

    def value(self) -> object:
        """A whole value of at most MOST_PIECE bytes."""
        self._skip()
        piece = self._text[self._at : self._at + MOST_PIECE]
        try:
            value, length = read_first(piece)
        except ValueError:
            if len(piece) < MOST_PIECE:
                raise
            raise ValueError(f"no value of {MOST_PIECE} bytes or less at {self._at}") from None
        self._at += length
        return value

    def end(self) -> None:
        """Nothing may come any more."""
        self._skip()
        if self._at != len(self._text):
            raise ValueError("more after the end")

    def _members(self, first: str, last: str) -> Iterator[None]:
        self._take(first)
        if self._comes(last):
            return
        yield
        while self._comes(","):
            yield
        self._take(last)

    def _comes(self, sign: str) -> bool:
        self._skip()
        found = self._text.startswith(sign, self._at)
        self._at += found
        return found

    def _take(self, sign: str) -> None:
        if not self._comes(sign):
            raise ValueError(f"no {sign!r} at byte {self._at}")

    def _skip(self) -> None:
        space = _SPACE.match(self._text, self._at)
        self._at = space.end() if space else self._at
