"""A database that nmk 0.1.0 left behind: what it holds stays, and a copy of it is kept.

`golden/nmk-0.1.0.sql` is what `sqlite3 nmk.db .dump` says of a database that version made: a
network, its keys, nodes that joined, moved and left, a network that was deleted.
"""

from __future__ import annotations

import os
import signal
import sqlite3
import stat
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from nmk.core.gateways import NO_GATEWAY
from nmk.core.records import AccessKey, Network, Node
from nmk.errors import StoreUnavailable
from nmk.store.engine import open_engine
from nmk.store.migrations import FIRST, GATEWAYS, MIGRATIONS
from nmk.store.store import Commit, Store
from tests.core.made import made_node
from tests.lab.polling import patient

DUMP = (Path(__file__).parents[1] / "golden" / "nmk-0.1.0.sql").read_text()
EPOCH = "1b4f2c802a3f75c0"
TABLES = ("meta", "changes", "networks", "access_keys", "nodes", "presence")
Rows = dict[str, list[dict[str, object]]]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """The database of nmk 0.1.0."""
    made = tmp_path / "nmk.db"
    with closing(sqlite3.connect(made)) as database:
        database.execute("PRAGMA journal_mode = wal")
        database.executescript(DUMP)
    return made


def rows(path: Path) -> Rows:
    """All rows of the tables that 0.1.0 had, by other means than ours."""
    with closing(sqlite3.connect(path)) as database:
        database.row_factory = sqlite3.Row
        return {
            table: [dict(row) for row in database.execute(f"SELECT * FROM {table} ORDER BY 1, 2")]
            for table in TABLES
        }


def schema(path: Path) -> str:
    with closing(sqlite3.connect(path)) as database:
        return "".join(
            f"{sql};\n"
            for (sql,) in database.execute(
                "SELECT sql FROM sqlite_master WHERE sql NOT NULL ORDER BY rowid"
            )
        )


def migrate(path: Path) -> Store:
    return Store(open_engine(f"sqlite://{path}"))


def copy_of(path: Path) -> Path:
    return path.with_name("nmk.db.schema1")


def without(row: Mapping[str, object], *names: str) -> dict[str, object]:
    return {k: v for k, v in row.items() if k not in names}


def test_the_first_step_makes_the_tables_of_0_1_0(path: Path, tmp_path: Path) -> None:
    fresh = tmp_path / "fresh.db"
    with closing(sqlite3.connect(fresh)) as database:
        for statement in FIRST:
            database.execute(statement)
    assert sorted(schema(fresh).split(";\n")) == sorted(schema(path).split(";\n"))


def test_everything_is_there_afterwards(path: Path) -> None:
    before = rows(path)
    migrate(path).close()
    after = rows(path)
    assert [row.pop("gateway") for row in after["nodes"]] == ["{}"] * 4
    assert [row.pop("protocol") for row in after["nodes"]] == [1] * 4  # of agents of that time
    assert {row["name"]: row["value"] for row in after["meta"]} == {
        **{str(row["name"]): row["value"] for row in before["meta"]},
        "schema": str(len(MIGRATIONS)),
    }
    assert {t: after[t] for t in TABLES[1:]} == {t: before[t] for t in TABLES[1:]}


def test_the_records_are_those_that_were_written(path: Path) -> None:
    store = migrate(path)
    assert store.epoch == EPOCH
    records = store.records_since("home", 0)
    nodes = {r.name: r for r in records if isinstance(r, Node)}
    assert set(nodes) == {"gone", "web", "db", "site"}
    assert {node.gateway for node in nodes.values()} == {NO_GATEWAY}
    assert nodes["web"].facts.endpoint == "198.51.100.7:51821"
    assert (nodes["db"].addresses, nodes["db"].endpoint) == (
        ("10.20.0.77", "fd20::3"),
        "[2001:db8::7]:51822",
    )
    assert nodes["gone"].deleted_at
    [network] = [r for r in records if isinstance(r, Network)]
    assert network.settings == {"keepalive": 0, "mtu": 1380}
    assert sorted(r.uses for r in records if isinstance(r, AccessKey)) == [0, 4]
    assert {name: point.revision for name, point in store.heads().items()} == {
        "*": 3,
        "home": 12,
        "lab": 2,
    }
    assert len(store.log_since("home", 0, 100)) == 12
    assert len(store.presence()) == 4
    store.close()


def test_the_schema_is_that_of_a_new_database(path: Path, tmp_path: Path) -> None:
    """But for the new column, which SQLite puts at the end of the old text."""
    fresh = tmp_path / "fresh.db"
    migrate(path).close()
    migrate(fresh).close()
    assert sorted(schema(path).split(";\n")) == sorted(schema(fresh).split(";\n"))


def test_what_was_there_goes_on(path: Path) -> None:
    store = migrate(path)
    [web] = [r for r in store.records_since("home", 0) if isinstance(r, Node) and r.name == "web"]
    moved = replace(web, name="www", revision=13)
    store.commit([Commit("home", 13, "c13", 1, "test", "[]")], [moved])
    store.close()
    again = migrate(path)
    assert again.epoch == EPOCH
    assert again.records_since("home", 12) == [moved]
    again.close()


def test_a_copy_is_kept_for_its_owner_alone(path: Path) -> None:
    before = rows(path), schema(path)
    old = os.umask(0)
    try:
        migrate(path).close()
    finally:
        os.umask(old)
    copy = copy_of(path)
    assert stat.S_IMODE(copy.stat().st_mode) == 0o600
    assert (rows(copy), schema(copy)) == before
    assert {p.name for p in path.parent.iterdir()} == {path.name, copy.name}


def test_the_copy_holds_what_is_still_in_the_write_ahead_log(path: Path) -> None:
    with closing(sqlite3.connect(path)) as database:
        database.execute("UPDATE networks SET settings = '{\"mtu\": 1300}' WHERE name = 'home'")
        database.commit()
        assert path.with_name("nmk.db-wal").stat().st_size
        migrate(path).close()
    assert rows(copy_of(path))["networks"][0]["settings"] == '{"mtu": 1300}'


def test_a_database_is_copied_and_brought_up_once(path: Path) -> None:
    migrate(path).close()
    before = path.read_bytes(), copy_of(path).read_bytes(), copy_of(path).stat().st_mtime_ns
    migrate(path).close()
    after = path.read_bytes(), copy_of(path).read_bytes(), copy_of(path).stat().st_mtime_ns
    assert after == before


def test_a_new_database_needs_no_copy(tmp_path: Path) -> None:
    migrate(tmp_path / "nmk.db").close()
    assert [path.name for path in tmp_path.iterdir()] == ["nmk.db"]


def test_the_copy_is_of_what_was_there_before_this_step(path: Path) -> None:
    """Who went back to 0.1.0 by means of the copy has worked on since."""
    migrate(path).close()
    path.write_bytes(copy_of(path).read_bytes())
    with closing(sqlite3.connect(path)) as database:
        database.execute("UPDATE nodes SET name = 'since' WHERE name = 'web'")
        database.commit()
    migrate(path).close()
    copies = [rows(p) for p in path.parent.glob("nmk.db.schema1*")]
    assert any("since" in {row["name"] for row in copy["nodes"]} for copy in copies)


KILL = """
import os, signal, sys
from pathlib import Path
from nmk.store.sqlite import SqliteEngine
from nmk.store.store import Store

def die(*_):
    os.kill(os.getpid(), signal.SIGKILL)

engine = SqliteEngine(sys.argv[1])
moment, number = sys.argv[2], int(sys.argv[3])
run, writing = engine.dialect.execute_sql, []

def execute(sql, *rest):
    if sql.startswith("BEGIN"):
        writing.append(sql)
    if moment == "write" and writing:
        if len(writing) > number:
            die()
        writing.append(sql)
    return run(sql, *rest)

engine.dialect.execute_sql = execute
if moment == "copy":
    Path.replace = die
Store(engine)
sys.exit(3)
"""


@pytest.mark.parametrize(
    ("moment", "number"), [("copy", 0), *(("write", number) for number in range(12))]
)
def test_killed_at_any_moment_it_goes_on(path: Path, moment: str, number: int) -> None:
    before = rows(path)
    command = [sys.executable, "-c", KILL, str(path), moment, str(number)]
    killed = subprocess.run(command, capture_output=True, check=False, timeout=patient(60))
    assert killed.returncode == -signal.SIGKILL, killed.stderr.decode()
    assert copy_of(path).exists() == (moment == "write")
    assert rows(path) == before
    store = migrate(path)
    assert store.epoch == EPOCH
    assert len(store.records_since("home", 0)) == 7
    store.close()
    assert rows(copy_of(path)) == before
    assert {p.name for p in path.parent.iterdir()} == {path.name, copy_of(path).name}


def test_a_database_of_0_2_0_comes_up_with_its_nodes(tmp_path: Path) -> None:
    """It cannot say which of their agents number their leaves: none does."""
    path = tmp_path / "nmk.db"
    with closing(sqlite3.connect(path)) as database:
        for statement in (*FIRST, *GATEWAYS):
            database.execute(statement)
        database.execute("INSERT INTO meta VALUES ('epoch', ?), ('schema', '2')", (EPOCH,))
        database.execute(
            "INSERT INTO networks VALUES ('home', '10.20.0.0/16', NULL, '{}', 1, NULL, 1)"
        )
        columns = "network, identity, name, address4, wg_key, listen_port, lan, interval, instance"
        database.execute(
            f"INSERT INTO nodes ({columns}, observed, seq, key_id, created_at, revision) "
            "VALUES ('home', 'i', 'web', '10.20.0.1', 'k', 1, '[]', 60, 'b', '[]', 3, '', 1, 1)"
        )
        database.commit()
    store = migrate(path)
    [_, node] = store.records_since("home", 0)
    assert isinstance(node, Node)
    assert (node.name, node.seq, node.facts.protocol, node.gateway) == ("web", 3, 1, NO_GATEWAY)
    store.close()
    assert path.with_name("nmk.db.schema2").exists()


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Path]:
    """A disk that has room for the database and not for a copy of it."""
    place = tmp_path / "small"
    place.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "nmk", place], check=True)
    yield place
    subprocess.run(["umount", "--lazy", place], check=True)


def test_without_room_for_a_copy_nothing_is_changed(path: Path, small: Path) -> None:
    full = small / path.name
    full.write_bytes(path.read_bytes())
    disk = os.statvfs(small)
    (small / "filler").write_bytes(bytes(disk.f_bavail * disk.f_bsize - 64 * 1024))
    before = full.read_bytes()
    engine = open_engine(f"sqlite://{full}")
    with pytest.raises(StoreUnavailable, match="full"):
        Store(engine)
    engine.close()
    assert not copy_of(full).exists()
    assert full.read_bytes() == before
    (small / "filler").unlink()
    migrate(full).close()
    assert rows(copy_of(full)) == rows(path)


def test_a_node_of_0_1_0_becomes_a_gateway(path: Path) -> None:
    store = migrate(path)
    gate = made_node(9, name="gate", revision=13)
    store.commit([Commit("home", 13, "c13", 1, "test", "[]")], [gate])
    assert store.records_since("home", 12) == [gate]
    store.close()
