"""The controller's data directory: its key, its admin key, its database, its socket, its lock."""

from __future__ import annotations

import os
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from glob import escape
from pathlib import Path
from typing import IO

from nmk.core.parse import quote
from nmk.errors import BadInput, Locked, NmkError, StoreUnavailable, StoreUnusable
from nmk.files import read_file, sync_directory, write_private
from nmk.locks import holder, open_lock, take
from nmk.server.log import log_trouble
from nmk.tools import root_hint
from nmk.wire.envelope import KEY_BYTES, Identity

OTHERS = 0o077
SOCKET = "admin.sock"
_LONGEST_KEY_FILE = 4096  # bytes
_LONGEST_SOCKET = 107  # bytes; sun_path of unix(7), less its final zero


def close_to_others(path: Path) -> None:
    """Let nobody but its owner read or write it, and say so where that is a change.

    Raises StoreUnusable where somebody else has put it there, OSError.
    """
    status = path.stat()
    if not {status.st_uid, path.lstat().st_uid} <= {0, os.geteuid()}:
        raise StoreUnusable(
            f"{path} belongs to another user", "where its content is yours: chown it"
        )
    if status.st_mode & OTHERS:
        path.chmod(status.st_mode & 0o700)
        log_trouble("closed-to-others", path=path, mode=f"{status.st_mode & 0o777:04o}")


def close_database(database: Path) -> None:
    """The same for a database with what SQLite and nmk keep beside it."""
    try:
        for file in database.parent.glob(f"{escape(database.name)}*"):
            close_to_others(file)
    except OSError as error:
        raise StoreUnavailable(f"the database {database}: {error.strerror}") from None


def check_place(path: Path) -> None:
    """Raises BadInput where no data directory can be, whatever else is there."""
    if len(os.fsencode(path.absolute() / SOCKET)) > _LONGEST_SOCKET:
        raise BadInput(
            f"the path {quote(path)} is too long for a socket in it", "use a shorter --data-dir"
        )
    if os.path.lexists(path) and not os.path.isdir(path):  # noqa: PTH112  # may not be looked at
        raise BadInput(f"{quote(path)} is no directory", "name another with --data-dir")


def is_empty(directory: Path) -> bool:
    """Whether there is nothing in it."""
    return not any(directory.iterdir())


class DataDir:
    """The directory, made when it is not there, and locked for this process.

    Raises Locked when another controller runs on it, StoreUnavailable when it cannot be written,
    StoreUnusable when the database is there and the key that its nodes know is not.
    """

    def __init__(self, path: Path) -> None:
        self.path = path = path.absolute()
        check_place(path)
        try:
            path.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._close()
            self._lock = self._take_lock()
            self.is_new = not self.key_file.exists()
            self._is_key_new = self.is_new and not self._new_key.exists()
            if self.is_new and self.database.exists() and not self._new_key.exists():
                raise StoreUnusable(
                    f"{self.database} is there and {self.key_file} is not",
                    "restore the key file from a backup: the nodes know the controller by it",
                )
            key = self._new_key if self.is_new else self.key_file
            self.identity = Identity.from_secret(self._secret(key))
            self.admin_key = self._secret(self.admin_key_file).hex()
        except OSError as error:
            hint = "choose another with --data-dir"
            if isinstance(error, PermissionError) and os.geteuid() != 0:
                hint = f"{root_hint()}, or {hint}"
            message = f"the data directory {path}: {error.strerror}"
            raise StoreUnavailable(message, hint) from None

    @property
    def key_file(self) -> Path:
        """The controller's identity, in hex. Whoever has it can speak as the controller."""
        return self.path / "controller.key"

    @property
    def admin_key_file(self) -> Path:
        """What the admin API over TCP asks for, in hex."""
        return self.path / "admin.key"

    @property
    def database(self) -> Path:
        """The default SQLite database."""
        return self.path / "nmk.db"

    @property
    def socket(self) -> Path:
        """The admin API for root on this host."""
        return self.path / SOCKET

    @property
    def _new_key(self) -> Path:
        """Where the key of a first start is until the database is made and bound to it."""
        return self.path / ".controller.key.new"

    def check_database(self, database: Path) -> None:
        """Raises StoreUnusable where there is a key and not the database that it was used with.

        An empty one in its place would forget the nodes without a word.
        """
        if self.is_new or (database.exists() and database.stat().st_size):
            return
        what = "is empty" if database.exists() else "is not there"
        raise StoreUnusable(
            f"{self.key_file} is there and its database {database} {what}",
            f"restore the database from a backup; to begin anew, move {self.key_file} away",
        )

    @contextmanager
    def first_start(self) -> Iterator[None]:
        """A key that was made at this start is the controller's only when the block succeeds.

        One that was cut short, or found no database that answers, begins again with the same key:
        the database may be bound to it. Raises StoreUnavailable.
        """
        try:
            yield
        except NmkError as error:
            if self._is_key_new and not isinstance(error, StoreUnavailable):
                self._new_key.unlink(missing_ok=True)
            raise
        if self.is_new:
            try:
                self._new_key.replace(self.key_file)
                sync_directory(self.path)
            except OSError as error:
                message = f"{self.key_file} cannot be made: {error.strerror}"
                raise StoreUnavailable(message) from None

    def _close(self) -> None:
        """Take from other users what they may not have: with a key they are the controller."""
        for file in (self.key_file, self._new_key, self.admin_key_file):
            if os.path.lexists(file):
                close_to_others(file)
        mode = self.path.stat().st_mode
        if mode & OTHERS:
            if mode & stat.S_ISVTX or not (self.key_file.exists() or is_empty(self.path)):
                raise BadInput(
                    f"{quote(self.path)} is open to other users and not the controller's alone",
                    "name a directory that is not there yet, with --data-dir",
                )
            close_to_others(self.path)

    def _take_lock(self) -> IO[bytes]:
        lock = os.fdopen(open_lock(self.path / "lock"), "rb")
        if not take(lock.fileno()):
            with lock:
                raise Locked(
                    f"another controller runs on {self.path}{holder(lock.fileno()) or ''}",
                    "stop it first, or give this one a --data-dir",
                )
        return lock

    def _secret(self, path: Path) -> bytes:
        if not path.exists():
            write_private(path, secrets.token_bytes(KEY_BYTES).hex().encode() + b"\n")
        try:
            secret = bytes.fromhex(read_file(path, _LONGEST_KEY_FILE).decode("ascii"))
        except ValueError:
            secret = b""
        if len(secret) != KEY_BYTES:
            raise StoreUnusable(f"{path} does not hold a key", "restore the file from a backup")
        return secret
