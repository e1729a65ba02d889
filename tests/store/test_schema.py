"""The schema that the migrations make is the one in the golden file, and the one peewee knows."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any

import pytest

from nmk.errors import StoreUnusable
from nmk.store.engine import open_engine
from nmk.store.migrations import MIGRATIONS
from nmk.store.store import Store
from nmk.store.tables import TABLES, ChangeRow, MetaRow, PresenceRow
from tests.golden.compare import check_golden


@pytest.fixture
def database(tmp_path: Path) -> sqlite3.Connection:
    """A new database, read by other means than ours."""
    path = tmp_path / "nmk.db"
    Store(open_engine(f"sqlite://{path}")).close()
    return sqlite3.connect(path)


def test_the_schema_is_the_golden_one(database: sqlite3.Connection) -> None:
    rows = database.execute("SELECT sql FROM sqlite_master WHERE sql NOT NULL ORDER BY rowid")
    check_golden("schema.sql", "".join(f"{sql};\n" for (sql,) in rows))


@pytest.mark.parametrize(
    "table", [MetaRow, ChangeRow, PresenceRow, *TABLES.values()], ids=lambda t: t.__name__
)
def test_models_have_the_tables_columns(database: sqlite3.Connection, table: Any) -> None:
    meta = table._meta
    rows = database.execute(
        'SELECT name, type, "notnull", pk FROM pragma_table_info(?)', (meta.table_name,)
    )
    keys = [f.column_name for f in meta.get_primary_keys()]
    assert {row[0]: row[1:] for row in rows} == {
        f.column_name: (
            f.field_type,
            int(not f.null),
            keys.index(f.column_name) + 1 if f.column_name in keys else 0,
        )
        for f in meta.sorted_fields
    }


def test_the_database_says_what_it_is(database: sqlite3.Connection) -> None:
    meta = dict(database.execute("SELECT name, value FROM meta"))
    assert meta.pop("schema") == str(len(MIGRATIONS))
    assert len(bytes.fromhex(meta.pop("epoch"))) == 8
    assert meta == {}


def test_a_database_keeps_its_epoch_and_another_has_another(tmp_path: Path) -> None:
    epochs = []
    for name in ("a", "a", "b"):
        store = Store(open_engine(f"sqlite://{tmp_path / name}"))
        epochs.append(store.epoch)
        store.close()
    assert epochs[0] == epochs[1] != epochs[2]


def test_a_database_of_a_newer_nmk_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "nmk.db"
    Store(open_engine(f"sqlite://{path}")).close()
    with sqlite3.connect(path) as database:
        database.execute("UPDATE meta SET value = '99' WHERE name = 'schema'")
    database.close()
    before = path.read_bytes()
    with pytest.raises(StoreUnusable, match="schema 99"):
        Store(open_engine(f"sqlite://{path}"))
    assert path.read_bytes() == before
