"""What the store asks of a database: to read, and to write several statements as one.

An engine is a file beside this one. It needs no interactive transactions, so that a database
that is spoken to over HTTP can be one as well. `docs/engines.md` says how to add one.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from peewee import Database, Node

from nmk.core.parse import quote
from nmk.errors import BadInput, ToolMissing
from nmk.tools import install_hint

Statement = tuple[str, Sequence[Any]]

URLS = "--db sqlite:///PATH, postgresql://USER@HOST/DATABASE or rqlite://HOST:4001,HOST:4001"


class Collision(Exception):
    """The batch broke a uniqueness or a check, or made a table that exists: another was faster.

    This try wrote nothing. An earlier one of the same batch may have, where that was Uncertain
    or where the database tries again by itself.
    """


class Uncertain(Exception):
    """The connection was lost at the moment of commit: all of the batch is written, or nothing.

    Or it will be: the batch may still be on its way.
    """


class Engine(Protocol):
    """A database. All methods may be called from any thread, and come back within about 10 s.

    They raise StoreUnavailable when the database does not answer, and StoreUnusable when it
    answers what no waiting will mend. In both cases nothing was written.
    """

    @property
    def dialect(self) -> Database:
        """How this database writes its SQL."""

    def read(self, statement: Statement) -> list[tuple[Any, ...]]:
        """The rows of a SELECT; sees every batch that was acknowledged before."""

    def write(self, batch: Sequence[Statement]) -> None:
        """Run all statements or none, durably. Raises Collision, Uncertain."""

    def tables(self) -> set[str]:
        """The names of the tables there are."""

    def keep_copy(self, version: int) -> None:
        """Put a copy of a database of that schema aside, where nobody else makes copies of it."""

    def settle(self) -> None:
        """Bring what was acknowledged to its last place, where the database has one before it."""

    def close(self) -> None:
        """Let go of connections and files."""


def compile_query(engine: Engine, query: Node) -> Statement:
    """A peewee query as the engine's SQL and its parameters."""
    context: Any = engine.dialect.get_sql_context()
    sql, params = context.sql(query).query()
    return sql, params


def open_engine(url: str) -> Engine:
    """The engine for a `--db` URL. Its driver is imported only here.

    Raises ToolMissing where there is none, and BadInput, which quotes the scheme alone: the rest
    may hold a password.
    """
    scheme, _, rest = url.partition("://")
    if scheme == "sqlite" and rest.startswith("/"):
        from nmk.store.sqlite import SqliteEngine

        return SqliteEngine(rest)
    if scheme in {"postgresql", "postgres"} and rest:
        try:
            from nmk.store.postgres import PostgresEngine
        except ModuleNotFoundError:
            raise ToolMissing("PostgreSQL needs psycopg 3", "pip install psycopg") from None
        except ImportError:
            raise ToolMissing("psycopg finds no libpq", install_hint("libpq")) from None
        return PostgresEngine(url)
    if scheme == "rqlite" and rest:
        from nmk.store.rqlite import RqliteEngine

        return RqliteEngine(rest)
    raise _no_database(url)


def check_url(url: str) -> None:
    """Raises BadInput for what no engine is for, before anything of the database is looked at."""
    scheme, _, rest = url.partition("://")
    is_known = scheme in {"sqlite", "postgresql", "postgres", "rqlite"} and rest
    if not is_known or (scheme == "sqlite" and not rest.startswith("/")):
        raise _no_database(url)


def _no_database(url: str) -> BadInput:
    scheme, separator, _ = url.partition("://")
    wrong = quote(f"{scheme}://...") if separator else "what --db says"
    return BadInput(f"{wrong} is no database", URLS)
