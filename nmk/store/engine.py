"""What the store asks of a database: to read, and to write several statements as one.

An engine is a file beside this one. It needs no interactive transactions, so that a database
that is spoken to over HTTP can be one as well.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from peewee import Database, Node

from nmk.core.parse import quote
from nmk.errors import BadInput

Statement = tuple[str, Sequence[Any]]


class Collision(Exception):
    """The batch broke a uniqueness or a check: another writer was faster. Nothing was written."""


class Uncertain(Exception):
    """The connection was lost at the moment of commit: all of the batch was written or nothing."""


class Engine(Protocol):
    """A database. All methods may be called from any thread; errors are StoreUnavailable."""

    @property
    def dialect(self) -> Database:
        """How this database writes its SQL."""

    def read(self, statement: Statement) -> list[tuple[Any, ...]]:
        """The rows of a SELECT; sees every batch that was acknowledged before."""

    def write(self, batch: Sequence[Statement]) -> None:
        """Run all statements or none, durably. Raises Collision, Uncertain."""

    def tables(self) -> set[str]:
        """The names of the tables there are."""

    def close(self) -> None:
        """Let go of connections and files."""


def compile_query(engine: Engine, query: Node) -> Statement:
    """A peewee query as the engine's SQL and its parameters."""
    context: Any = engine.dialect.get_sql_context()
    sql, params = context.sql(query).query()
    return sql, params


def open_engine(url: str) -> Engine:
    """The engine for a `--db` URL: `sqlite:///PATH`."""
    scheme, _, rest = url.partition("://")
    if scheme == "sqlite" and rest.startswith("/"):
        from nmk.store.sqlite import SqliteEngine

        return SqliteEngine(rest)
    raise BadInput(
        f"{quote(url)} is no database", "write it like sqlite:////var/lib/nmk/server/nmk.db"
    )
