"""Texts of nodes that are kept as they came, until somebody looks: bounded, all together."""

from __future__ import annotations

import threading
from collections.abc import Iterator

_ONE = 256  # bytes that a text costs besides its own
_ROOM = 8  # the part of the bound that is made free at once, so that it is seldom done


class Told:
    """The last text of each node, and when it came. Thread-safe.

    Where all of them would take more than `most` bytes the longest go: who says little is never
    cut for who says much.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._bytes = 0
        self._texts: dict[str, tuple[float, bytes]] = {}
        self._lock = threading.Lock()

    def __iter__(self) -> Iterator[str]:
        """The identities that something is kept of."""
        return iter(list(self._texts))

    def put(self, identity: str, when: float, text: str) -> None:
        """This is what it says now; "" for nothing."""
        raw = text.encode(errors="replace")  # a lone surrogate may come in JSON
        with self._lock:
            self._drop(identity)
            if not raw:
                return
            if self._bytes + len(raw) + _ONE > self._most:
                self._make_room()
            self._texts[identity] = (when, raw)
            self._bytes += len(raw) + _ONE

    def get(self, identity: str) -> tuple[float, str] | None:
        """When it came, and the text; None for nothing."""
        found = self._texts.get(identity)
        return found and (found[0], found[1].decode())

    def pop(self, identity: str, _default: None = None) -> None:
        """Forget what a node said."""
        with self._lock:
            self._drop(identity)

    def _drop(self, identity: str) -> None:
        if before := self._texts.pop(identity, None):
            self._bytes -= len(before[1]) + _ONE

    def _make_room(self) -> None:
        """Forget the longest, until a part of the bound is free."""
        by_length = sorted(self._texts, key=lambda i: len(self._texts[i][1]))
        while by_length and self._bytes > self._most - self._most // _ROOM:
            self._drop(by_length.pop())
