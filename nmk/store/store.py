"""The store: the revision log over an engine.

Every change to a network is one atomic batch: the touched rows, stamped with the new revision,
and a row in `changes` whose primary key (network, revision) makes the batch a compare-and-swap.
"""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from peewee import EXCLUDED, Model, fn
from peewee import Node as Query

from nmk.core.records import AccessKey, ExtClient, Network, Node, Record, key_of
from nmk.errors import StoreUnavailable, StoreUnusable
from nmk.store.engine import Collision, Engine, Statement, Uncertain, compile_query
from nmk.store.migrations import MIGRATIONS
from nmk.store.tables import TABLES, ChangeRow, ExtClientRow, MetaRow, PresenceRow, from_row, to_row

KINDS: tuple[type[Record], ...] = (Network, AccessKey, Node, ExtClient)

_LONGEST_LOGGED = 200  # characters of one column in the log
FORGET_AT_ONCE = 5_000  # changes; whoever commits waits for them
FORGET_SECONDS = 2.0  # in which no more of them are begun; who stops the controller waits for it
SETTLE_SECONDS = 8.0
PAUSE_SECONDS = 0.2
UNKNOWN = (
    "the database was lost at the moment of commit: the change may have been made",
    "look whether it was made before you repeat it",
)


@dataclass(frozen=True, slots=True)
class Commit:
    """One change to one network. `what` holds the touched rows before and after, as JSON."""

    network: str
    revision: int
    id: str
    at: int
    actor: str
    what: str


@dataclass(frozen=True, slots=True)
class Point:
    """A commit as the memory keeps it: where it is in the log, and when it was made."""

    revision: int
    commit_id: str
    at: int


class Store:
    """The database behind the controller. Raises StoreUnusable when its schema is a newer one."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._migrate()
        self.epoch = self._meta("epoch")

    def close(self) -> None:
        """Let go of the database."""
        self._engine.close()

    def claim(self, controller_key: str) -> None:
        """Bind the database to one controller's public key, at its first start.

        All replicas on one database have the same key: nodes know the controller by it. Raises
        StoreUnusable where it is bound to another.
        """
        row = self._insert(MetaRow, {"name": "controller", "value": controller_key})
        with suppress(Collision, Uncertain):
            self._engine.write([row])
        owner = self._meta("controller")
        if owner != controller_key:
            raise StoreUnusable(
                f"the database is another controller's: its key is {owner}, ours {controller_key}",
                "put that controller's controller.key into the data directory",
            )

    def commit(self, commits: Iterable[Commit], records: Iterable[Record]) -> None:
        """Write the records and the log, all or nothing, exactly once. Raises Collision.

        After an uncertain end the same batch is written again: it collides with itself where it
        was written, waits for itself where it is still on its way, and else is written now. To
        look for its commit id first would prove nothing: it may arrive after the look.

        Raises StoreUnavailable; only its message tells of a batch whose fate stays unknown.
        """
        commits = sorted(commits, key=lambda c: c.network)  # one order for all: no deadlocks
        batch = [self._insert(ChangeRow, _change_row(c)) for c in commits]
        batch += [self._upsert(record) for record in sorted(records, key=_table_order)]
        until = time.monotonic() + SETTLE_SECONDS
        unsure = False
        while True:
            try:
                self._write_once(batch, commits[0].id)
            except Uncertain:
                unsure = True
            except StoreUnavailable:
                if not unsure:
                    raise
            else:
                return
            if time.monotonic() > until:
                raise StoreUnavailable(*UNKNOWN)
            time.sleep(PAUSE_SECONDS)

    def log_since(self, network: str, revision: int, limit: int) -> list[Point]:
        """The newest `limit` commits above a revision, in their order."""
        query = (
            ChangeRow.select(ChangeRow.revision, ChangeRow.commit_id, ChangeRow.at)
            .where((ChangeRow.network == network) & (ChangeRow.revision > revision))
            .order_by(ChangeRow.revision.desc())
            .limit(limit)
        )
        return [Point(*row) for row in reversed(self._read(query))]

    def heads(self) -> dict[str, Point]:
        """Every network's newest commit."""
        columns = (ChangeRow.network, ChangeRow.revision, ChangeRow.commit_id, ChangeRow.at)
        other = ChangeRow.alias()
        top = other.select(other.network, fn.MAX(other.revision).alias("revision"))
        top = top.group_by(other.network)  # not once for each change, as a correlated query would
        newest = (ChangeRow.network == top.c.network) & (ChangeRow.revision == top.c.revision)
        rows = self._read(ChangeRow.select(*columns).join(top, on=newest))
        return {network: Point(*point) for network, *point in rows}

    def commit_id(self, network: str, revision: int) -> str | None:
        """The id of the commit that made a revision; None when the log does not reach there."""
        query = ChangeRow.select(ChangeRow.commit_id).where(
            (ChangeRow.network == network) & (ChangeRow.revision == revision)
        )
        rows = self._read(query)
        return rows[0][0] if rows else None

    def records_since(self, network: str, revision: int) -> list[Record]:
        """The network's rows that were written after a revision, in revision order."""
        found: list[Record] = []
        for kind in KINDS:
            table = TABLES[kind]
            owner = table.name if kind is Network else table.network
            query = table.select().where((owner == network) & (table.revision > revision))
            columns = list(table._meta.sorted_field_names)  # noqa: SLF001  # peewee's documented door
            found += [
                from_row(kind, dict(zip(columns, row, strict=True)))
                for row in self._read(query.order_by(table.revision))
            ]
        return found

    def presence(self) -> dict[str, int]:
        """When each identity was last heard of."""
        return dict(self._read(PresenceRow.select()))

    def save_presence(self, seen: Mapping[str, int]) -> None:
        """Remember when identities were last heard of; the later of two times stays."""
        query = PresenceRow.insert({"identity": "", "last_seen": 0}).on_conflict(
            conflict_target=[PresenceRow.identity],
            preserve=[PresenceRow.last_seen],
            where=EXCLUDED.last_seen > PresenceRow.last_seen,
        )
        sql, _ = compile_query(self._engine, query)
        if seen:
            self._write_again([(sql, pair) for pair in sorted(seen.items())])

    def forget_changes(self, before: int) -> None:
        """Drop log rows older than that time, each network's newest kept, some at a time.

        As many as there is time for: the others go the next time.
        So go the rows of ext clients that were deleted before it. A deleted node's stays: its
        identity is refused for ever.
        """
        gone = ExtClientRow.delete().where(ExtClientRow.deleted_at < before)
        self._write_again([compile_query(self._engine, gone)])
        until = time.monotonic() + FORGET_SECONDS
        for network, head in self.heads().items():
            old = (ChangeRow.network == network) & (ChangeRow.at < before)
            first = ChangeRow.select(fn.MIN(ChangeRow.revision))
            while True:
                [(start,)] = self._read(first.where(old & (ChangeRow.revision < head.revision)))
                if start is None:
                    break
                if time.monotonic() > until:
                    return
                end = min(start + FORGET_AT_ONCE, head.revision)
                some = ChangeRow.delete().where(old & (ChangeRow.revision < end))
                self._write_again([compile_query(self._engine, some)])

    def _write_once(self, batch: Sequence[Statement], commit_id: str) -> None:
        """Write a commit, unless it is there. Uncertain where the database cannot say."""
        try:
            self._engine.write(batch)
        except Collision:
            try:
                written = self._has(commit_id)
            except StoreUnavailable as error:
                raise Uncertain(error.message) from None
            if not written:
                raise

    def _write_again(self, batch: Sequence[Statement]) -> None:
        """Write what does no harm when it is written twice. Whoever collides may try later."""
        try:
            self._engine.write(batch)
        except (Collision, Uncertain) as error:
            raise StoreUnavailable(f"the database did not confirm a write: {error}") from None

    def _migrate(self) -> None:
        """Bring the schema up to date, beside others who do the same."""
        while (version := self._version()) < len(MIGRATIONS):
            if version:
                self._engine.keep_copy(version)
            try:
                self._engine.write(self._migration(version))
            except (Collision, Uncertain) as error:
                if self._version() == version:
                    raise StoreUnusable(
                        f"the schema cannot be made: {error}",
                        "give nmk a database of its own, with the right to create tables",
                    ) from None
        if version > len(MIGRATIONS):
            raise StoreUnusable(
                f"the database has schema {version}, this nmk knows schemas up to {len(MIGRATIONS)}"
            )

    def _version(self) -> int:
        return int(self._meta("schema")) if "meta" in self._engine.tables() else 0

    def _migration(self, version: int) -> list[Statement]:
        """All steps up from a version; the second of two who take them at once collides."""
        steps: list[Statement] = [(sql, ()) for step in MIGRATIONS[version:] for sql in step]
        now = self._insert(MetaRow, {"name": "schema", "value": str(len(MIGRATIONS))})
        if version == 0:
            epoch = self._insert(MetaRow, {"name": "epoch", "value": secrets.token_hex(8)})
            return [*steps, epoch, now]
        was = (MetaRow.name == "schema") & (MetaRow.value == str(version))
        return [compile_query(self._engine, MetaRow.delete().where(was)), now, *steps]

    def _meta(self, name: str) -> str:
        value = dict(self._read(MetaRow.select())).get(name)
        if value is None:
            raise StoreUnusable(
                f"the database has a table meta without {name}", "give nmk a database of its own"
            )
        return str(value)

    def _has(self, commit_id: str) -> bool:
        query = ChangeRow.select(ChangeRow.revision).where(ChangeRow.commit_id == commit_id)
        return bool(self._read(query))

    def _read(self, query: Query) -> list[tuple[Any, ...]]:
        return self._engine.read(compile_query(self._engine, query))

    def _insert(self, table: type[Model], row: Mapping[str, Any]) -> Statement:
        return compile_query(self._engine, table.insert(**row))

    def _upsert(self, record: Record) -> Statement:
        table = TABLES[type(record)]
        meta = table._meta  # noqa: SLF001  # peewee's documented door
        primary = [field.name for field in meta.get_primary_keys()]
        others = [name for name in meta.sorted_field_names if name not in primary]
        query = table.insert(**to_row(record)).on_conflict(
            conflict_target=[meta.fields[name] for name in primary],
            preserve=[meta.fields[name] for name in others],
        )
        return compile_query(self._engine, query)


def describe_change(pairs: Iterable[tuple[Record | None, Record]]) -> str:
    """The log's `what`: of each touched row the columns that changed, before and after.

    A new row is there whole. Secrets are hashes, and long texts cut off: the log is for people.
    """
    return json.dumps([_describe(*pair) for pair in pairs], separators=(",", ":"))


def _describe(before: Record | None, after: Record) -> dict[str, Any]:
    new, old = to_row(after), to_row(before) if before else {}
    changed = [name for name in new if name not in old or old[name] != new[name]]
    return {
        "table": TABLES[type(after)]._meta.table_name,  # noqa: SLF001  # peewee's documented door
        "key": key_of(after),
        "before": {name: _short(old[name]) for name in changed} if before else None,
        "after": {name: _short(new[name]) for name in changed},
    }


def _short(value: object) -> object:
    if not isinstance(value, str) or len(value) <= _LONGEST_LOGGED:
        return value
    return value[:_LONGEST_LOGGED] + "..."


def _change_row(commit: Commit) -> dict[str, Any]:
    return {
        "network": commit.network,
        "revision": commit.revision,
        "commit_id": commit.id,
        "at": commit.at,
        "actor": commit.actor,
        "what": commit.what,
    }


def _table_order(record: Record) -> int:
    return KINDS.index(type(record))
