"""Files that are no database of ours, and records that come back as they went."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from dataclasses import replace
from pathlib import Path
from shutil import copy
from typing import cast

import pytest
from peewee import OperationalError

from nmk.core.records import Network, Node, Record, hash_secret
from nmk.errors import NmkError, StoreUnavailable, StoreUnusable
from nmk.store.engine import Statement, open_engine
from nmk.store.sqlite import IO_ERROR, SqliteEngine
from nmk.store.store import Commit, Store, describe_change
from tests.core.made import NOW, SECRET, made_facts, made_key, made_node


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "nmk.db"


@pytest.fixture
def store(path: Path) -> Iterator[Store]:
    made = Store(open_engine(f"sqlite://{path}"))
    yield made
    made.close()


def open_store(path: Path) -> None:
    Store(open_engine(f"sqlite://{path}")).close()


def test_garbage_is_no_database(path: Path) -> None:
    path.write_bytes(b"nothing that SQLite ever wrote" * 1000)
    with pytest.raises(StoreUnusable, match=str(path)):
        open_store(path)
    assert path.read_bytes().startswith(b"nothing")


def test_a_database_cut_short_is_told(path: Path) -> None:
    open_store(path)
    path.write_bytes(path.read_bytes()[:5000])
    with pytest.raises((StoreUnusable, StoreUnavailable), match=str(path)):
        open_store(path)


@pytest.mark.parametrize(("free", "said"), [(16, "full: 16 KiB are free"), (900, "I/O error")])
def test_a_disk_without_room_for_the_index_is_full(
    path: Path, monkeypatch: pytest.MonkeyPatch, free: int, said: str
) -> None:
    engine = SqliteEngine(str(path))

    def fail(*_: object) -> None:
        raise OperationalError(IO_ERROR)  # as SQLite says where it can make no -shm

    sizes = (1024, 1024, 1000, free, free, 0, 0, 0, 0, 255)
    monkeypatch.setattr(engine.dialect, "execute_sql", fail)
    monkeypatch.setattr(os, "statvfs", lambda _: os.statvfs_result(sizes))
    with pytest.raises(StoreUnavailable, match=said):
        engine.write([])


@pytest.mark.parametrize(
    "sql",
    [
        "CREATE TABLE meta (name TEXT, value TEXT)",
        "CREATE TABLE meta (name TEXT, value TEXT); INSERT INTO meta VALUES ('epoch', 'x')",
        "CREATE TABLE meta (name TEXT, value TEXT); INSERT INTO meta VALUES ('schema', '1')",
        "CREATE TABLE meta (something INTEGER)",
    ],
)
def test_another_programs_database_is_left_alone(path: Path, sql: str) -> None:
    with sqlite3.connect(path) as database:
        database.executescript(sql)
    database.close()
    with pytest.raises(NmkError) as refusal:
        open_store(path)
    assert type(refusal.value) in {StoreUnusable, StoreUnavailable}


@pytest.mark.parametrize("where", ["missing/nmk.db", "."])
def test_a_place_where_no_file_can_be_is_told(tmp_path: Path, where: str) -> None:
    with pytest.raises(StoreUnavailable, match=str(tmp_path)):
        open_store(tmp_path / where)


def test_the_log_of_a_change_holds_no_secret() -> None:
    key = made_key()
    what = describe_change([(None, key), (key, replace(key, uses=1))])
    assert hash_secret(SECRET) in what
    assert SECRET.hex() not in what


def test_one_identity_in_two_networks_is_two_nodes(store: Store) -> None:
    """Otherwise who may join one network could make a node of his vanish from another's table."""
    rows: dict[str, list[Record]] = {}
    for name in ("home", "lab"):
        rows[name] = [
            Network(name, "10.20.0.0/24", None, revision=1),
            made_key(network=name, revision=1),
            made_node(1, network=name, revision=1),
        ]
        store.commit([Commit(name, 1, f"commit-{name}", NOW, "test", "[]")], rows[name])
    assert {name: store.records_since(name, 0) for name in rows} == rows


def test_old_changes_are_forgotten_some_at_a_time(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever commits meanwhile waits for some, and a server that gives up gets on all the same."""
    monkeypatch.setattr("nmk.store.store.FORGET_AT_ONCE", 3)
    create_network(store, "home")
    for revision in range(2, 12):
        store.commit([Commit("home", revision, f"c{revision}", NOW + revision, "test", "[]")], [])
    write, sizes = store._engine.write, []

    def counting(batch: Sequence[Statement]) -> None:
        before = len(store.log_since("home", 0, 100))
        write(batch)
        sizes.append(before - len(store.log_since("home", 0, 100)))

    monkeypatch.setattr(store._engine, "write", counting)
    store.forget_changes(NOW + 9)
    assert [point.revision for point in store.log_since("home", 0, 100)] == [9, 10, 11]
    assert sizes == [0, 3, 3, 2]
    monkeypatch.setattr("nmk.store.store.FORGET_SECONDS", -1)
    store.forget_changes(NOW + 99)
    assert store.log_since("home", 0, 100)[0].revision == 9  # there was no time
    monkeypatch.undo()
    store.forget_changes(NOW + 99)
    assert [point.revision for point in store.log_since("home", 0, 100)] == [11]


def test_a_thread_whose_rollback_fails_writes_again(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    create_network(store, "before")
    dialect = cast(SqliteEngine, store._engine).dialect
    execute = dialect.execute_sql

    def fail(sql: str, *more: object) -> object:
        if sql in {"COMMIT", "ROLLBACK"}:
            raise OperationalError(IO_ERROR)
        return execute(sql, *more)

    monkeypatch.setattr(dialect, "execute_sql", fail)
    with ThreadPoolExecutor(1) as thread:
        with pytest.raises(StoreUnavailable, match="I/O error"):
            thread.submit(create_network, store, "lost").result()
        monkeypatch.undo()
        thread.submit(create_network, store, "after").result()
    assert set(store.heads()) == {"before", "after"}


def test_a_row_is_written_over_by_the_next_revision(store: Store) -> None:
    store.commit(
        [Commit("home", 1, "one", NOW, "test", "[]")],
        [Network("home", "10.20.0.0/24", None, revision=1), made_node(1, revision=1)],
    )
    moved = made_node(1, name="web", facts=made_facts(9, lan=["192.168.1.7/24"]), revision=2)
    store.commit([Commit("home", 2, "two", NOW, "test", "[]")], [moved])
    assert [r for r in store.records_since("home", 0) if isinstance(r, Node)] == [moved]
    assert store.records_since("home", 1) == [moved]


def test_a_stored_address_that_no_machine_can_have_is_left_out(store: Store) -> None:
    odd = ("224.0.0.5", "0.0.0.0", "::ffff:10.0.0.1", "fe80::1")
    node = made_node(
        1,
        facts=made_facts(1, lan=[*(f"{a}/24" for a in odd), "192.168.1.7/24"]),
        observed=("0.0.0.0", "198.51.100.7"),
        revision=1,
    )
    store.commit(
        [Commit("home", 1, "one", NOW, "test", "[]")],
        [Network("home", "10.20.0.0/24", None, revision=1), node],
    )
    [read] = [r for r in store.records_since("home", 0) if isinstance(r, Node)]
    assert read.facts.lan == ("192.168.1.7/24",)
    assert read.observed == ("198.51.100.7",)


def create_network(store: Store, name: str) -> None:
    network = Network(name, "10.20.0.0/24", None, revision=1)
    store.commit([Commit(name, 1, f"commit-{name}", NOW, "test", "[]")], [network])


def test_nothing_is_acknowledged_into_a_file_that_was_moved_away(store: Store, path: Path) -> None:
    create_network(store, "before")
    away = path.rename(path.with_name("away.db"))

    def commit_elsewhere() -> None:
        with ThreadPoolExecutor(1) as thread:  # it has no connection yet, and would make a file
            thread.submit(create_network, store, "lost").result()

    for commit in (lambda: create_network(store, "lost"), commit_elsewhere, store.heads):
        with pytest.raises(StoreUnavailable, match="not in its place: No such file") as refusal:
            commit()
        assert refusal.value.hint == "put the file back"
    assert not path.exists()
    away.rename(path)
    create_network(store, "after")
    assert set(store.heads()) == {"before", "after"}


def test_nothing_is_acknowledged_where_another_file_was_put_in_place(
    store: Store, path: Path, tmp_path: Path
) -> None:
    create_network(store, "before")
    other = tmp_path / "backup.db"
    open_store(other)
    other.rename(path)
    for act in (lambda: create_network(store, "lost"), store.heads):
        with pytest.raises(StoreUnavailable, match="was replaced by another file") as refusal:
            act()
        assert f"rm -f {path}-wal {path}-shm" in refusal.value.hint
    for end in ("-wal", "-shm"):  # which came with the other file
        Path(f"{path}{end}").rename(tmp_path / f"old{end}")
        Path(f"{path}{end}").write_bytes(b"")
    with pytest.raises(StoreUnavailable, match="was replaced by another file") as refusal:
        store.heads()
    assert refusal.value.hint == "stop the controller, start it again"


@pytest.mark.parametrize("end", ["-wal", "-shm"])
def test_nothing_is_acknowledged_into_a_log_that_was_removed(
    store: Store, path: Path, end: str
) -> None:
    create_network(store, "before")
    log = Path(f"{path}{end}")
    log.unlink()
    for what in ("is not in its place: No such file", "was replaced by another file"):
        for act in (lambda: create_network(store, "lost"), store.heads):
            with pytest.raises(StoreUnavailable, match=f"nmk.db{end}, .*{what}") as refusal:
                act()
            assert "SIGTERM" in refusal.value.hint
        log.touch()
    log.unlink()
    store.close()
    with closing(Store(open_engine(f"sqlite://{path}"))) as again:
        assert set(again.heads()) == {"before"}


def copied(path: Path) -> set[str]:
    """The networks in what a power cut would leave now."""
    there = path.with_name("copied")
    there.mkdir()
    for end in ("", "-wal"):
        with suppress(FileNotFoundError):
            copy(f"{path}{end}", there)
    with closing(Store(open_engine(f"sqlite://{there / path.name}"))) as found:
        return set(found.heads())


@pytest.mark.parametrize("end", ["-wal", "-shm"])
def test_what_was_acknowledged_before_its_log_was_removed_is_saved_by_who_sees_that(
    store: Store, path: Path, end: str
) -> None:
    create_network(store, "before")
    Path(f"{path}{end}").unlink()
    with pytest.raises(StoreUnavailable, match="not in its place"):
        store.heads()
    assert copied(path) == {"before"}


def test_a_thread_that_connects_while_the_log_is_away_keeps_no_log_of_its_own(
    store: Store, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = cast(SqliteEngine, store._engine)
    connect = engine.dialect.connect
    log = Path(f"{path}-wal")

    def connect_as_it_goes(**how: object) -> object:
        log.rename(path.with_name("away"))
        return connect(**how)

    monkeypatch.setattr(engine.dialect, "connect", connect_as_it_goes)
    with ThreadPoolExecutor(1) as thread:
        with pytest.raises(StoreUnavailable, match=r"nmk\.db-wal"):
            thread.submit(store.heads).result()
        monkeypatch.undo()
        path.with_name("away").rename(log)
        thread.submit(create_network, store, "after").result()
    assert copied(path) == {"after"}


def test_an_engine_whose_log_goes_while_it_is_opened_does_not_begin(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    open_store(path)
    stat = os.stat

    def stat_as_it_goes(file: object, **how: object) -> os.stat_result:
        if str(file).endswith("-wal"):
            Path(str(file)).unlink(missing_ok=True)
        return stat(cast(str, file), **how)  # type: ignore[arg-type]

    monkeypatch.setattr(os, "stat", stat_as_it_goes)
    with pytest.raises(StoreUnavailable, match=r"nmk\.db-wal, .*has gone"):
        SqliteEngine(str(path))


@pytest.mark.parametrize("removed", [False, True])
def test_what_has_settled_is_in_the_file_without_its_log(path: Path, removed: bool) -> None:
    with closing(SqliteEngine(str(path))) as engine:
        create_network(Store(engine), "home")
        if removed:
            Path(f"{path}-wal").unlink()
        engine.settle()
        alone = path.with_name("alone.db")
        alone.write_bytes(path.read_bytes())
        with closing(Store(open_engine(f"sqlite://{alone}"))) as found:
            assert set(found.heads()) == {"home"}


def test_a_file_that_is_moved_away_during_a_commit_gets_nothing_of_it(path: Path) -> None:
    with closing(SqliteEngine(str(path))) as engine:
        engine.write([("CREATE TABLE t (n INTEGER)", ())])
        away = path.with_name("away.db")

        class Moving(list[Statement]):
            """Statements; the file is moved away before the last."""

            def __iter__(self) -> Iterator[Statement]:
                yield from self[:-1]
                path.rename(away)
                yield self[-1]

        with pytest.raises(StoreUnavailable, match="not in its place"):
            engine.write(Moving(("INSERT INTO t VALUES (?)", (n,)) for n in range(2)))
        away.rename(path)
        assert engine.read(("SELECT * FROM t", ())) == []
