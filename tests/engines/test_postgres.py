from __future__ import annotations

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import psycopg
import pytest

from nmk import threads
from nmk.core.records import AccessKey
from nmk.errors import MachineUnfit, NmkError, StoreUnavailable
from nmk.store import postgres as postgres_module
from nmk.store.engine import Collision, open_engine
from nmk.store.postgres import PostgresEngine
from tests.engines.changes import Opener, begin, stored, use_key
from tests.engines.proxy import AFTER, BEFORE, Proxy
from tests.engines.starters import Postgres, postgres_server

NOBODY_THERE = "postgresql://nmk:secret@127.0.0.1:1/nmk"


def test_a_restarted_server_is_found_again(opened: Opener) -> None:
    with postgres_server() as server:
        store = opened(server.new_database())
        begin(store)
        for round_ in range(1, 4):
            server.crash()
            with pytest.raises(StoreUnavailable, match="refused"):
                store.heads()
            server.start()
            use_key(store)
            assert stored(store, AccessKey)[0].uses == round_


def test_a_kept_connection_that_died_is_replaced(postgres: Postgres, opened: Opener) -> None:
    url = postgres.new_database()
    with closing(Proxy(postgres.port)) as proxy:
        store = opened(url.replace(f":{postgres.port}/", f":{proxy.port}/"))
        begin(store)
        for words, how in ((b"SELECT", BEFORE), (b"SELECT", AFTER), (b"BEGIN", AFTER)):
            proxy.lose(words, how)
            use_key(store)
        assert stored(store, AccessKey)[0].uses == 3


def test_a_server_that_says_nothing_is_not_waited_for(
    postgres: Postgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = open_engine(postgres.new_database())
    with monkeypatch.context() as patch:
        patch.setattr(postgres_module, "PATIENCE_SECONDS", 0.5)
        with pytest.raises(StoreUnavailable):
            engine.read(("SELECT pg_sleep(600)::text", ()))
        with pytest.raises(StoreUnavailable):
            engine.write([("SELECT pg_sleep(600)", ())])
    assert engine.tables() == set()
    engine.close()


def test_a_thread_that_dies_as_it_begins_holds_up_no_commit(
    postgres: Postgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As where there is no memory for it; the next one begins."""
    engine = open_engine(postgres.new_database())
    with monkeypatch.context() as patch:
        patch.setattr(threads, "_SECONDS", 0.05)
        patch.setattr(threads, "start_new_thread", lambda *_: None)
        with pytest.raises(MachineUnfit):
            engine.tables()
    assert engine.tables() == set()
    engine.close()


def test_what_is_missing_is_made_by_a_command(postgres: Postgres) -> None:
    there = postgres.new_database().rpartition("/")[0]
    with closing(PostgresEngine(f"{there}/nowhere")) as engine:
        with pytest.raises(StoreUnavailable) as caught:
            engine.tables()
        role = there.split("//")[1].partition(":")[0]
        assert caught.value.hint == f"on its host: createdb --owner={role} nowhere"
        # So it says where no password is asked for, as this server does.
        error = psycopg.OperationalError('failed: FATAL:  role "nmk" does not exist')
        explained = engine._explain(error)
        assert isinstance(explained, StoreUnavailable)
        assert explained.hint == "on its host: createuser nmk"


def test_two_who_wait_for_each_other_collide(postgres: Postgres) -> None:
    engine = open_engine(postgres.new_database())
    engine.write([("CREATE TABLE t (k TEXT PRIMARY KEY)", ())])
    first, second = ("INSERT INTO t VALUES ('1')", ()), ("INSERT INTO t VALUES ('2')", ())
    slowly = ("SELECT pg_sleep(0.2)", ())  # a deadlock, most likely; else one is just slower
    with ThreadPoolExecutor(2) as pool:
        batches = [[first, slowly, second], [second, slowly, first]]
        done = [pool.submit(engine.write, batch) for batch in batches]
    errors = [d.exception() for d in done]
    assert [type(error) for error in errors if error] == [Collision]
    assert sorted(engine.read(("SELECT k FROM t", ()))) == [("1",), ("2",)]
    engine.close()


@pytest.mark.parametrize(
    ("url", "error"),
    [
        (NOBODY_THERE, StoreUnavailable),
        ("postgresql://nmk:%zz@127.0.0.1/nmk", NmkError),
        ("postgresql://nmk:secret@127.0.0.1/nmk?nonsense=1", NmkError),
    ],
)
def test_an_error_holds_no_password(url: str, error: type[NmkError], opened: Opener) -> None:
    with pytest.raises(error) as caught:
        opened(url)
    assert "secret" not in caught.value.message + str(caught.value.hint)
    assert "%zz" not in caught.value.message


def test_a_wrong_password_is_told_but_not_shown(postgres: Postgres, opened: Opener) -> None:
    url = postgres.new_database().replace("Pa55", "Wrong77")
    with pytest.raises(StoreUnavailable, match="password authentication failed") as caught:
        opened(url)
    assert "Wrong77" not in str(caught.value)


def test_a_database_that_is_read_only_may_be_so_for_a_while(
    postgres: Postgres, opened: Opener
) -> None:
    with pytest.raises(StoreUnavailable, match="read-only"):
        opened(postgres.new_database() + "?options=-cdefault_transaction_read_only%3Don")


WITHOUT = """
import sys
sys.modules["psycopg"] = None
from nmk.errors import ToolMissing
from nmk.store.engine import open_engine
try:
    open_engine("postgresql://nmk:secret@127.0.0.1/nmk")
except ToolMissing as error:
    print(error.message, "/", error.hint)
"""

WITHOUT_LIBPQ = """
import ctypes.util
find = ctypes.util.find_library
ctypes.util.find_library = lambda name: None if "pq" in name else find(name)
""" + WITHOUT.replace('sys.modules["psycopg"] = None', "")

IMPORTS = """
import sys
from nmk.store.engine import open_engine
from nmk.store.store import Store
Store(open_engine("sqlite://" + sys.argv[1])).close()
print(*[name for name in sys.modules if name.startswith("psycopg")])
"""


def python(code: str, *arguments: str) -> str:
    command = [sys.executable, "-c", code, *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def test_without_the_driver_the_error_says_what_to_install() -> None:
    assert python(WITHOUT) == "PostgreSQL needs psycopg 3 / pip install psycopg"
    assert python(WITHOUT_LIBPQ) == "psycopg finds no libpq / apt-get install libpq5"


def test_the_driver_is_loaded_for_postgresql_only(tmp_path: Path) -> None:
    assert python(IMPORTS, f"{tmp_path}/nmk.db") == ""
