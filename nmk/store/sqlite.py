"""SQLite: the default engine, a file beside the controller's key.

Write-ahead log, so that readers never wait; `synchronous=FULL`, so that what was acknowledged
survives a power cut (sqlite.org/pragma.html#pragma_synchronous).
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from shlex import quote
from typing import Any

from peewee import DatabaseError, IntegrityError, OperationalError, PeeweeException, SqliteDatabase

from nmk.errors import StoreUnavailable, StoreUnusable
from nmk.files import temporary_of
from nmk.locks import passing_lock
from nmk.store.engine import Collision, Statement

BUSY_SECONDS = 5
_STARTER_SECONDS = 60  # that one starter waits for another to copy the database
LEAST_FREE = 64 * 1024  # bytes; the index of the write-ahead log has 32 KiB at least
IO_ERROR = "disk I/O error"
COLLISIONS = ("already exists", "duplicate column name")
LOGS = ("-wal", "-shm")
STOP_GENTLY = "stop the controller with SIGTERM, which saves what it has; then start it again"
WRONG = ("no such ", "syntax error")
"""What only SQLite's words tell: it has one error code for these."""


class SqliteEngine:
    """A database file. Raises StoreUnavailable when it cannot be opened.

    SQLite goes on with files that were moved away, removed or replaced, so each statement looks
    whether those at their paths are still what was opened, the write-ahead log and its index too:
    what is acknowledged would else be gone. Whoever sees that the log is not, and has a connection
    to it, brings what is in it alone into the file.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self.dialect: Any = SqliteDatabase(  # peewee's own methods have no types
            path,
            pragmas={"journal_mode": "wal", "synchronous": "full", "foreign_keys": 1},
            timeout=BUSY_SECONDS,
        )
        self._logs: list[tuple[str, os.stat_result]] = []
        with self._errors():
            self.dialect.connect()
            self.dialect.get_tables()  # a first look at it makes its log
            try:
                self._opened = os.stat(path)  # noqa: PTH116  # no Path made for each statement
                # Some filesystems let it have no log.
                ends = LOGS if self.dialect.journal_mode == "wal" else ()
                self._logs = [(path + end, os.stat(path + end)) for end in ends]  # noqa: PTH116
            except OSError as error:
                what = f"{error.filename}, part of the database, has gone: {error.strerror}"
                raise StoreUnavailable(what, "start the controller again") from None

    def read(self, statement: Statement) -> list[tuple[Any, ...]]:
        """See Engine."""
        with self._errors():
            self._connect()
            return list(self.dialect.execute_sql(*statement).fetchall())

    def write(self, batch: Sequence[Statement]) -> None:
        """See Engine. A local file is never Uncertain: the commit returned or it did not happen."""
        with self._errors(), self._transaction():
            for statement in batch:
                self.dialect.execute_sql(*statement)

    def tables(self) -> set[str]:
        """See Engine."""
        with self._errors():
            self._connect()
            return set(self.dialect.get_tables())

    def keep_copy(self, version: int) -> None:
        """See Engine: beside the file, whole or not at all, by one starter after the other."""
        path = Path(self.path)
        copy = Path(f"{path}.schema{version}")
        scratch = temporary_of(copy)
        try:
            with passing_lock(path.with_name(f".{path.name}.lock"), _STARTER_SECONDS):
                scratch.unlink(missing_ok=True)
                scratch.touch(0o600)  # VACUUM INTO takes a file that is empty
                try:
                    with self._errors():
                        self.dialect.execute_sql("VACUUM INTO ?", (str(scratch),))
                    if _schema_of(scratch) == version:  # another may have changed it meanwhile
                        _sync(scratch)
                        scratch.replace(copy)
                        _sync(path.parent)
                finally:
                    scratch.unlink(missing_ok=True)
        except OSError as error:
            raise StoreUnavailable(f"{copy} cannot be made: {error.strerror}") from None

    def settle(self) -> None:
        """See Engine: from the write-ahead log into the file (sqlite.org/pragma.html).

        From a log that was removed as well, by a connection that this thread has to it.
        """
        with self._errors():
            if self.dialect.is_closed():
                self._connect()
            self._check_main()
            self._checkpoint()

    def close(self) -> None:
        """See Engine."""
        self.dialect.close()

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        """All or nothing. Where the disk is full SQLite has rolled back by itself."""
        self._connect()
        self.dialect.execute_sql("BEGIN IMMEDIATE")
        try:
            yield
            self._check_main()
            self._check_logs()
            self.dialect.execute_sql("COMMIT")
        except BaseException:
            if self.dialect.connection().in_transaction:
                try:
                    self.dialect.execute_sql("ROLLBACK")
                except BaseException:
                    self.dialect.close()  # else it would begin no other transaction, ever
                    raise
            raise

    def _connect(self) -> None:
        """See that this thread has a connection, and to the files that were opened first.

        Raises StoreUnavailable where these are not in their places. A new connection would make
        others there, and what it writes would be in these.
        """
        self._check_main()
        if self.dialect.is_closed():
            self._check_logs()
            try:
                self.dialect.connect()
                self.dialect.get_tables()  # a first look opens the log
                self._check_main()
                self._check_logs()
            except BaseException:
                self.dialect.close()
                self._check_logs()  # which says more than SQLite's error
                raise
            return
        try:
            self._check_logs()
        except StoreUnavailable:
            with suppress(DatabaseError, PeeweeException):  # the next one tries again
                self._checkpoint()
            raise

    def _checkpoint(self) -> None:
        self.dialect.execute_sql("PRAGMA wal_checkpoint(PASSIVE)").fetchall()

    def _check_logs(self) -> None:
        """Raises StoreUnavailable where the write-ahead log is not the one that was opened."""
        for log, opened in self._logs:
            try:
                if os.path.samestat(os.stat(log), opened):  # noqa: PTH116
                    continue
                what = "was replaced by another file"
            except OSError as error:
                what = f"is not in its place: {error.strerror}"
            raise StoreUnavailable(f"{log}, part of the database, {what}", STOP_GENTLY)

    def _check_main(self) -> None:
        """Raises StoreUnavailable where the file is not there, or is another one, until it is."""
        try:
            if os.path.samestat(os.stat(self.path), self._opened):  # noqa: PTH116
                return
            what = "was replaced by another file under the running controller"
            hint = "stop the controller, start it again"
            if any(self._is_in_place(*log) for log in self._logs):
                # It is of the file before; SQLite would take it for this one's.
                logs = f"{quote(self.path + '-wal')} {quote(self.path + '-shm')}"
                hint = f"stop the controller, rm -f {logs}, start it again"
        except OSError as error:
            what, hint = f"is not in its place: {error.strerror}", "put the file back"
        raise StoreUnavailable(f"the database {self.path} {what}", hint)

    @staticmethod
    def _is_in_place(log: str, opened: os.stat_result) -> bool:
        with suppress(OSError):
            return os.path.samestat(os.stat(log), opened)  # noqa: PTH116
        return False

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except IntegrityError as error:
            raise Collision(str(error)) from None
        except OperationalError as error:
            if any(words in str(error) for words in COLLISIONS):
                raise Collision(str(error)) from None
            if any(words in str(error) for words in WRONG):
                raise StoreUnusable(f"the database {self.path}: {error}") from None
            raise StoreUnavailable(f"the database {self.path}: {self._why(error)}") from None
        except (DatabaseError, PeeweeException) as error:
            raise StoreUnusable(f"the database {self.path}: {error}") from None

    def _why(self, error: OperationalError) -> str:
        """What SQLite says; a disk without room for what it keeps in memory is no I/O error."""
        if IO_ERROR not in str(error):
            return str(error)
        with suppress(OSError):
            disk = os.statvfs(Path(self.path).parent)
            free = disk.f_bavail * disk.f_frsize
            if free < LEAST_FREE:
                return f"its disk is full: {free // 1024} KiB are free ({error})"
        return str(error)


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _schema_of(path: Path) -> int:
    """The schema's version in a database file."""
    with closing(sqlite3.connect(path)) as database:
        rows = database.execute("SELECT value FROM meta WHERE name = 'schema'").fetchall()
    return int(rows[0][0])
