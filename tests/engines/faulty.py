"""An engine that loses the connection at the moment of commit, as a script says."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from nmk.errors import StoreUnavailable, StoreUnusable
from nmk.store.engine import Engine, Statement, Uncertain


class Faulty:
    """Before another engine. Each write takes the next word of the script, and `well` after it.

    `well`; `lost`: nothing was written; `done`: all was; `held`: it will be, before the batch of
    `release`; `down`: the database is not there; `odd`: what it says cannot be understood;
    `deaf`: it is there, but the next read fails.
    """

    def __init__(self, engine: Engine, script: Iterable[str]) -> None:
        self._engine = engine
        self._script = list(script)
        self._held: list[Sequence[Statement]] = []
        self._deaf = False
        self.dialect = engine.dialect
        self.tables = engine.tables
        self.keep_copy = engine.keep_copy
        self.settle = engine.settle
        self.close = engine.close

    def read(self, statement: Statement) -> list[tuple[Any, ...]]:
        if self._deaf:
            self._deaf = False
            raise StoreUnavailable("deaf")
        return self._engine.read(statement)

    def write(self, batch: Sequence[Statement]) -> None:
        word = self._script.pop(0) if self._script else "well"
        if word == "down":
            raise StoreUnavailable("down")
        if word == "odd":
            raise StoreUnusable("odd")
        if word == "held":
            self._held.append(batch)
        if word == "release":
            self._engine.write(self._held.pop())
        if word in {"well", "done", "release", "deaf"}:
            self._deaf = word == "deaf"
            self._engine.write(batch)
        if word in {"lost", "done", "held"}:
            raise Uncertain(word)

    def release(self) -> None:
        """What was held arrives. Raises what the database says to it."""
        self._engine.write(self._held.pop())
