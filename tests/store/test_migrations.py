"""Databases that older versions left behind: what they hold stays, and a copy of it is kept.

`golden/nmk-VERSION.sql` is what `sqlite3 nmk.db .dump` says of a database that version made: a
network, its keys, nodes that joined, moved and left, a network that was deleted; of 0.2.0 also
gateways and ext clients.
"""

from __future__ import annotations

import os
import signal
import sqlite3
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import NamedTuple

import pytest

from nmk.core.gateways import NO_GATEWAY, Egress, Exit, Gateway, Ingress
from nmk.core.records import AccessKey, ExtClient, Network, Node
from nmk.errors import StoreUnavailable
from nmk.store.engine import open_engine
from nmk.store.migrations import MIGRATIONS
from nmk.store.store import Commit, Store
from tests.core.made import made_node
from tests.lab.polling import patient

GOLDEN = Path(__file__).parents[1] / "golden"
Rows = dict[str, list[dict[str, object]]]


class Old(NamedTuple):
    """What a version left: its schema's number, the head of `home` and how many records it has."""

    version: str
    schema: int
    epoch: str
    head: int
    records: int


FIRST_RELEASE = Old("0.1.0", 1, "1b4f2c802a3f75c0", 12, 7)
SECOND_RELEASE = Old("0.2.0", 2, "d1fdcfd4c92ececb", 23, 11)
RELEASES = (FIRST_RELEASE, SECOND_RELEASE)
of_0_1_0 = pytest.mark.parametrize("old", [FIRST_RELEASE], indirect=True)
of_0_2_0 = pytest.mark.parametrize("old", [SECOND_RELEASE], indirect=True)


@pytest.fixture(params=RELEASES, ids=lambda old: old.version)
def old(request: pytest.FixtureRequest) -> Old:
    """The version that the database is of."""
    found: Old = request.param
    return found


@pytest.fixture
def path(tmp_path: Path, old: Old) -> Path:
    """The database."""
    made = tmp_path / "nmk.db"
    with closing(sqlite3.connect(made)) as database:
        database.execute("PRAGMA journal_mode = wal")
        database.executescript((GOLDEN / f"nmk-{old.version}.sql").read_text())
    return made


def rows(path: Path) -> Rows:
    """All rows of all tables, by other means than ours."""
    with closing(sqlite3.connect(path)) as database:
        database.row_factory = sqlite3.Row
        tables = database.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall()
        return {
            table: [dict(row) for row in database.execute(f"SELECT * FROM {table} ORDER BY 1, 2")]
            for (table,) in tables
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
    [copy] = path.parent.glob(f"{path.name}.schema?")
    return copy


def test_the_steps_of_a_version_make_its_tables(path: Path, old: Old, tmp_path: Path) -> None:
    fresh = tmp_path / "fresh.db"
    with closing(sqlite3.connect(fresh)) as database:
        for statement in chain.from_iterable(MIGRATIONS[: old.schema]):
            database.execute(statement)
    assert sorted(schema(fresh).split(";\n")) == sorted(schema(path).split(";\n"))


NEW = {  # columns and what is in them of rows that were there before
    "gateway": "{}",
    "protocol": 1,  # it cannot say which agents number their leaves: none does
    "routes": "[]",
}


def test_everything_is_there_afterwards(path: Path) -> None:
    before = rows(path)
    migrate(path).close()
    after = rows(path)
    for table, old_rows in before.items():
        for was, row in zip(old_rows, after[table], strict=True):
            if was.get("name") == "schema":
                assert row == {"name": "schema", "value": str(len(MIGRATIONS))}
            else:
                assert row == {**{k: v for k, v in NEW.items() if k in row}, **was}


@of_0_1_0
def test_the_records_are_those_that_were_written(path: Path, old: Old) -> None:
    store = migrate(path)
    assert store.epoch == old.epoch
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


@of_0_2_0
def test_gateways_and_ext_clients_are_those_that_were_written(path: Path, old: Old) -> None:
    store = migrate(path)
    assert store.epoch == old.epoch
    records = store.records_since("home", 0)
    nodes = {r.name: r for r in records if isinstance(r, Node)}
    ranges = ("192.168.50.0/24", "2001:db8:50::/64")
    assert {name: node.gateway for name, node in nodes.items()} == {
        "gone": NO_GATEWAY,
        "web": NO_GATEWAY,
        "db": NO_GATEWAY,
        "site": Gateway(Ingress("vpn.example.org:51820"), Egress(ranges, "off", "eth1", 50)),
        "border": Gateway(Ingress("198.51.100.9:51825"), exit=Exit("on")),
    }
    assert (nodes["web"].seq, nodes["web"].facts.endpoint) == (1, "198.51.100.7:51821")
    clients = {r.name: r for r in records if isinstance(r, ExtClient)}
    assert {name: client.addresses for name, client in clients.items()} == {
        "phone": ("10.20.0.6", "fd20::6"),
        "tablet": ("10.20.0.99", "fd20::7"),
        "lost": ("10.20.0.7", "fd20::8"),
    }
    assert clients["phone"].gateway == nodes["site"].identity
    assert clients["phone"].issue.ranges == ("10.20.0.0/16", "fd20::/64", *ranges)
    assert clients["lost"].deleted_at
    tablet = clients["tablet"]
    assert (tablet.full_tunnel, tablet.state, tablet.issue.mtu) == (True, "enabled", 1380)
    assert tablet.expires_at == tablet.created_at + 30 * 86400
    assert {name: point.revision for name, point in store.heads().items()} == {
        "*": 3,
        "home": 23,
        "lab": 2,
    }
    store.close()


def test_the_schema_is_that_of_a_new_database(path: Path, tmp_path: Path) -> None:
    """But for new columns, which SQLite puts at the end of the old text."""
    fresh = tmp_path / "fresh.db"
    migrate(path).close()
    migrate(fresh).close()
    assert sorted(schema(path).split(";\n")) == sorted(schema(fresh).split(";\n"))


def test_what_was_there_goes_on(path: Path, old: Old) -> None:
    store = migrate(path)
    assert len(store.log_since("home", 0, 100)) == old.head
    [web] = [r for r in store.records_since("home", 0) if isinstance(r, Node) and r.name == "web"]
    moved = replace(web, name="www", revision=old.head + 1)
    store.commit([Commit("home", moved.revision, "next", 1, "test", "[]")], [moved])
    store.close()
    again = migrate(path)
    assert again.epoch == old.epoch
    assert again.records_since("home", old.head) == [moved]
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
    """Who went back to the old version by means of the copy has worked on since."""
    migrate(path).close()
    path.write_bytes(copy_of(path).read_bytes())
    with closing(sqlite3.connect(path)) as database:
        database.execute("UPDATE nodes SET name = 'since' WHERE name = 'web'")
        database.commit()
    migrate(path).close()
    copies = [rows(p) for p in path.parent.glob("nmk.db.schema*")]
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


def moments(old: Old) -> Iterator[tuple[Old, str, int]]:
    """Before the copy is in its place, and before each statement of the batch that follows."""
    yield old, "copy", 0
    statements = sum(map(len, MIGRATIONS[old.schema :])) + 3  # BEGIN, the version, COMMIT
    yield from ((old, "write", number) for number in range(statements))


@pytest.mark.parametrize(
    ("old", "moment", "number"),
    [moment for old in RELEASES for moment in moments(old)],
    indirect=["old"],
)
def test_killed_at_any_moment_it_goes_on(path: Path, old: Old, moment: str, number: int) -> None:
    before = rows(path)
    command = [sys.executable, "-c", KILL, str(path), moment, str(number)]
    killed = subprocess.run(command, capture_output=True, check=False, timeout=patient(60))
    assert killed.returncode == -signal.SIGKILL, killed.stderr.decode()
    assert bool(list(path.parent.glob("*.schema?"))) == (moment == "write")
    assert rows(path) == before
    store = migrate(path)
    assert store.epoch == old.epoch
    assert len(store.records_since("home", 0)) == old.records
    store.close()
    assert rows(copy_of(path)) == before
    assert {p.name for p in path.parent.iterdir()} == {path.name, copy_of(path).name}


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
    assert not list(small.glob("*.schema*"))
    assert full.read_bytes() == before
    (small / "filler").unlink()
    migrate(full).close()
    assert rows(copy_of(full)) == rows(path)


@of_0_1_0
@pytest.mark.usefixtures("old")
def test_a_node_of_0_1_0_becomes_a_gateway(path: Path) -> None:
    store = migrate(path)
    gate = made_node(9, name="gate", revision=13)
    store.commit([Commit("home", 13, "c13", 1, "test", "[]")], [gate])
    assert store.records_since("home", 12) == [gate]
    store.close()
