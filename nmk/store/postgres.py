"""PostgreSQL, by psycopg 3 and the system's libpq.

A batch is one transaction, read committed: of two writers of one key the second waits for the
first and then collides. Connections are kept for the next one who needs one, and tried again on
a fresh one when they turn out to have died while nobody looked: a server that was restarted.
"""

from __future__ import annotations

import os
import re
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from itertools import groupby
from operator import itemgetter
from threading import Event
from typing import Any, TypeVar

import psycopg
from peewee import PostgresqlDatabase
from psycopg.conninfo import conninfo_to_dict
from psycopg.pq import TransactionStatus

from nmk.core.parse import quote
from nmk.errors import BadInput, MachineUnfit, NmkError, StoreUnavailable, StoreUnusable
from nmk.store.engine import URLS, Collision, Statement, Uncertain
from nmk.store.postgres_hints import hint_for
from nmk.threads import start

CONNECT_SECONDS = 3
PATIENCE_SECONDS = 7.0
DEFAULTS = {
    "connect_timeout": CONNECT_SECONDS,
    "fallback_application_name": "nmk",
    # The server, too, gives up: what we have left must not keep its locks.
    "options": "-c statement_timeout=6s -c idle_in_transaction_session_timeout=6s",
}
"""libpq's connection parameters, where the URL does not say otherwise."""

COLLISIONS = {
    "40001",  # serialization_failure
    "40P01",  # deadlock_detected
    "42701",  # duplicate_column
    "42710",  # duplicate_object
    "42P07",  # duplicate_table
}
"""SQLSTATEs, besides those of integrity (23...), that tell of a faster writer."""

_PARAMETER = re.compile(r'invalid URI query parameter: "([^"]*)"')
_INVALID = re.compile(
    r'invalid integer value ".*" for connection option "(\w+)"'
    r"|invalid (\w+) value|bad value for (\w+)"
)

READ_ONLY = "25006"  # we are still with the old primary of a cluster that has a new one
FOR_AN_ADMIN = {"42501", "3F000"}  # insufficient_privilege; no schema that the login may use
"""What another login, or a word of the server's administrator, would mend: no damage."""

Connection = psycopg.Connection[tuple[Any, ...]]
T = TypeVar("T")


class PostgresEngine:
    """The database of a `postgresql://` URL, which is libpq's, with all its parameters."""

    def __init__(self, url: str) -> None:
        try:
            given = conninfo_to_dict(url)
        except (psycopg.Error, UnicodeError) as error:
            # What stands before an @ may be the password, be it encoded badly.
            named = _PARAMETER.match(str(error))
            is_public = named and f"{named[1]}=" in url.rpartition("@")[2]
            why = f": it knows no parameter {quote(named[1])}" if named and is_public else ""
            raise BadInput(f"libpq cannot read the URL of --db{why}", URLS) from None
        if "@" in str(given.get("dbname")) and "user" not in given:
            why = "what a password has of /, :, @ and # is written %2F, %3A, %40 and %23"
            raise BadInput("libpq cannot read the URL of --db", why)
        self._settings: dict[str, Any] = {**DEFAULTS, **given}
        where = f"{given.get('host', 'localhost')}/{given.get('dbname', '')}"
        self._name = f"the PostgreSQL database {where}"
        self._role, self._database = str(given.get("user", "")), str(given.get("dbname", ""))
        self._schema = "public"
        self._idle: list[Connection] = []
        self.dialect: Any = PostgresqlDatabase(None)  # peewee's own methods have no types

    def read(self, statement: Statement) -> list[tuple[Any, ...]]:
        """See Engine. Every connection sees what any has committed."""
        return self._run(lambda connection: connection.execute(*statement).fetchall())

    def write(self, batch: Sequence[Statement]) -> None:
        """See Engine. Uncertain from the moment that COMMIT was sent."""
        self._run(lambda connection: _write(connection, batch))

    def tables(self) -> set[str]:
        """See Engine."""
        query = "SELECT schemaname, tablename FROM pg_tables WHERE schemaname = current_schema()"
        found = self.read((query, ()))
        self._schema = next((schema for schema, _ in found), self._schema)
        return {name for _, name in found}

    def keep_copy(self, version: int) -> None:
        """See Engine. Its owner makes copies by the database's own means."""

    def settle(self) -> None:
        """See Engine: its servers do that."""

    def close(self) -> None:
        """See Engine."""
        while self._idle:
            self._idle.pop().close()

    def _run(self, work: Callable[[Connection], T]) -> T:
        until = time.monotonic() + PATIENCE_SECONDS
        while True:
            kept = self._take()
            try:
                return self._use(kept or self._connect(), work, until)
            except psycopg.Error as error:
                if not (kept and _is_loss(error) and time.monotonic() < until):
                    raise self._explain(error) from None

    def _take(self) -> Connection | None:
        with suppress(IndexError):
            return self._idle.pop()
        return None

    def _connect(self) -> Connection:
        # Prepared statements would be lost behind a pooler that hands out other connections.
        made = psycopg.connect(autocommit=True, prepare_threshold=None, **self._settings)
        self._role, self._database = made.info.user, made.info.dbname
        return made

    def _use(self, connection: Connection, work: Callable[[Connection], T], until: float) -> T:
        with _deadline(connection, until):
            try:
                return work(connection)
            finally:
                if connection.info.transaction_status is not TransactionStatus.IDLE:
                    with suppress(psycopg.Error):
                        connection.execute("ROLLBACK")
                if connection.info.transaction_status is TransactionStatus.IDLE:
                    self._idle.append(connection)
                else:
                    connection.close()

    def _explain(self, error: psycopg.Error) -> Collision | NmkError:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        if _is_collision(error):
            return Collision(reason)
        if error.sqlstate is None and (invalid := _INVALID.search(reason)):
            # Not the value: where the URL was meant otherwise it may be of the password.
            which = next(filter(None, invalid.groups()))
            return BadInput(f"libpq cannot use the URL of --db: its {which} is not valid", URLS)
        is_open = error.sqlstate == READ_ONLY or error.sqlstate in FOR_AN_ADMIN
        if is_open or isinstance(error, psycopg.OperationalError):
            hint = hint_for(reason, self._role, self._database, self._schema)
            return StoreUnavailable(f"{self._name}: {reason}", hint)
        return StoreUnusable(f"{self._name}: {reason}")


def _write(connection: Connection, batch: Sequence[Statement]) -> None:
    connection.execute("BEGIN")
    for sql, alike in groupby(batch, key=itemgetter(0)):  # thousands of presences: one round trip
        connection.cursor().executemany(sql, [params for _, params in alike])
    try:
        connection.execute("COMMIT")
    except psycopg.Error as error:
        if _is_collision(error):
            raise
        raise Uncertain(str(error)) from None


def _is_collision(error: psycopg.Error) -> bool:
    state = error.sqlstate or ""
    return state.startswith("23") or state in COLLISIONS


def _is_loss(error: psycopg.Error) -> bool:
    """Whether it says that there is no connection, be it by a server that is shutting down."""
    state = error.sqlstate
    return isinstance(error, psycopg.OperationalError) and (
        state is None or state.startswith(("08", "57P"))
    )


@contextmanager
def _deadline(connection: Connection, until: float) -> Iterator[None]:
    """Cut the connection when the time is over; whoever waits for it gets an OperationalError.

    libpq itself would wait for as long as the other side's kernel is alive. Raises MachineUnfit.
    """
    over = Event()

    def watch() -> None:
        if not over.wait(max(until - time.monotonic(), 0)):
            _cut(connection)

    try:
        start(watch)
    except MachineUnfit:
        connection.close()
        raise
    try:
        yield
    finally:
        over.set()


def _cut(connection: Connection) -> None:
    with suppress(OSError, psycopg.Error), socket.socket(fileno=os.dup(connection.fileno())) as own:
        own.shutdown(socket.SHUT_RDWR)
