"""rqlite: SQLite on several machines that agree by Raft, spoken to over HTTP (rqlite.io/docs/api).

Any member takes any request and forwards it to the leader, so one that answers is enough. A batch
is one request, `/db/execute?transaction`: one entry of the Raft log, applied whole or not at all.
Its failure is an error inside an HTTP 200.
"""

from __future__ import annotations

import json
import time
from base64 import b64encode
from collections.abc import Sequence
from http.client import HTTPConnection, HTTPException
from typing import Any
from urllib.parse import unquote

from peewee import SqliteDatabase

from nmk.core.nesting import read_json
from nmk.core.parse import join_endpoint, parse_port, quote
from nmk.errors import BadInput, StoreUnavailable, StoreUnusable
from nmk.store.engine import URLS, Collision, Statement, Uncertain

PORT = 4001
CONNECT_SECONDS = 1.5
ANSWER_SECONDS = 4.0
PATIENCE_SECONDS = 6.0  # a new leader is elected in 1 to 3 s
PAUSE_SECONDS = 0.1

# The member that takes the request gives the leader less time than we give it, and tries once.
EXECUTE = "/db/execute?transaction&timeout=3s&retries=0"

# `strong` reads by way of the Raft log, and costs what a write costs. `weak` may read what a
# leader that was voted out a moment ago still holds; `linearizable` is unknown before 8.32, where
# an unknown level means `weak`.
QUERY = "/db/query?level=strong&timeout=3s&retries=0"

COLLISIONS = ("constraint failed", "already exists", "duplicate column name")
PASSING = ("is full", "I/O error", "is locked")

Member = tuple[str, int]


class _Down(Exception):
    """Nobody is there: the request was not sent."""


class _Leaderless(Exception):
    """The member knows no leader at the moment: the request was not taken."""


class _Lost(Exception):
    """The request went out, and nothing tells what became of it."""


class RqliteEngine:
    """The cluster of an `rqlite://` URL: `[USER:PASSWORD@]HOST[:PORT],...`, without the scheme."""

    def __init__(self, address: str) -> None:
        login, at, hosts = address.rpartition("@")
        self._members = [_parse_member(text) for text in hosts.split(",")]
        self._name = f"the rqlite cluster {hosts}"
        self._headers = {"Content-Type": "application/json"}
        if at:
            encoded = b64encode(unquote(login).encode()).decode()
            self._headers["Authorization"] = f"Basic {encoded}"
        self.dialect: Any = SqliteDatabase(None)  # peewee's own methods have no types

    def read(self, statement: Statement) -> list[tuple[Any, ...]]:
        """See Engine."""
        [result] = self._ask(QUERY, [statement])
        return [tuple(row) for row in result.get("values", [])]

    def write(self, batch: Sequence[Statement]) -> None:
        """See Engine. Uncertain when the request went out and no verdict came back."""
        self._ask(EXECUTE, batch)

    def tables(self) -> set[str]:
        """See Engine."""
        query = "SELECT name FROM sqlite_master WHERE type = 'table'"
        return {name for (name,) in self.read((query, ()))}

    def keep_copy(self, version: int) -> None:
        """See Engine. Its owner makes copies by the database's own means."""

    def settle(self) -> None:
        """See Engine: its servers do that."""

    def close(self) -> None:
        """See Engine. Every request has a connection of its own."""

    def _ask(self, path: str, batch: Sequence[Statement]) -> list[dict[str, Any]]:
        """The statements' results, from the first member that has them.

        Waits while there are members without a leader. A write is sent to one of them once.
        """
        body = json.dumps([[sql, *params] for sql, params in batch]).encode()
        until = time.monotonic() + PATIENCE_SECONDS
        while True:
            troubles: list[Exception] = []
            for member in self._members:
                try:
                    results = self._exchange(member, path, body)
                except (_Down, _Leaderless) as trouble:
                    troubles.append(trouble)
                except _Lost as trouble:
                    self._members = [m for m in self._members if m != member] + [member]
                    if path == EXECUTE:
                        raise Uncertain(str(trouble)) from None
                    troubles.append(trouble)
                else:
                    self._members = [member] + [m for m in self._members if m != member]
                    self._check(results)
                    return results
            nobody_is_there = all(isinstance(trouble, _Down) for trouble in troubles)
            if nobody_is_there or time.monotonic() > until:
                raise StoreUnavailable(f"{self._name}: {troubles[0]}")
            time.sleep(PAUSE_SECONDS)

    def _exchange(self, member: Member, path: str, body: bytes) -> list[dict[str, Any]]:
        connection = HTTPConnection(*member, timeout=CONNECT_SECONDS)
        try:
            try:
                connection.connect()
            except OSError as error:
                raise _Down(f"{_show(member)}: {error}") from None
            connection.sock.settimeout(ANSWER_SECONDS)
            try:
                connection.request("POST", path, body, self._headers)
                with connection.getresponse() as answer:
                    status, text = answer.status, answer.read().decode(errors="replace").strip()
            except (OSError, HTTPException) as error:
                raise _Lost(f"{_show(member)}: {error!r}") from None
        finally:
            connection.close()
        if status == 503:
            raise _Leaderless(f"{_show(member)}: {text}")
        if status == 401:
            raise StoreUnusable(f"{self._name} refuses the user or the password", URLS)
        if 300 <= status < 500:
            raise StoreUnusable(f"{_show(member)} is no rqlite: HTTP {status}, {quote(text)}", URLS)
        return _parse_results(text)

    def _check(self, results: list[dict[str, Any]]) -> None:
        for result in results:
            reason = str(result.get("error", ""))
            if any(words in reason for words in COLLISIONS):
                raise Collision(reason)
            if any(words in reason for words in PASSING):
                raise StoreUnavailable(f"{self._name}: {reason}")
            if reason:
                raise StoreUnusable(f"{self._name}: {reason}")


def _parse_results(text: str) -> list[dict[str, Any]]:
    """The results in a reply. Raises _Lost: an error beside them is one of Raft, not of SQL."""
    try:
        reply = read_json(text)
        if "error" not in reply:
            results: list[dict[str, Any]] = reply["results"]
            return results
    except (ValueError, KeyError, TypeError):
        raise _Lost(f"what answers is no rqlite: {quote(text)}") from None
    raise _Lost(str(reply["error"]))


def _parse_member(text: str) -> Member:
    host, colon, port = text.rpartition(":")
    if not colon or text.endswith("]"):
        host, port = text, str(PORT)
    if not host or set(host) & set("/?#@"):
        raise BadInput("the URL of --db names no rqlite host", URLS)
    return host.strip("[]"), parse_port(port)


def _show(member: Member) -> str:
    return join_endpoint(*member)
