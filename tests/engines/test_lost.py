"""The connection lost at the moment of commit, on the wire: one commit, and the truth about it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, replace

import pytest

from nmk.core.records import AccessKey
from nmk.errors import StoreUnavailable
from nmk.store import store as store_module
from nmk.store.engine import Engine, Uncertain, compile_query, open_engine
from nmk.store.store import Store
from nmk.store.tables import MetaRow
from tests.engines.changes import KEY, Opener, begin, change, stored, use_key
from tests.engines.proxy import AFTER, BEFORE, LATE, How, Proxy
from tests.engines.starters import Postgres, Rqlite

LOSSES = pytest.mark.parametrize("how", [BEFORE, AFTER, LATE])


@dataclass
class Wire:
    """A database, at a URL of its own and by way of a proxy. `last` are a commit's last words."""

    url: str
    proxied: str
    proxy: Proxy
    last: bytes


@pytest.fixture(params=["postgresql", "rqlite"])
def wire(request: pytest.FixtureRequest) -> Iterator[Wire]:
    if request.param == "postgresql":
        postgres: Postgres = request.getfixturevalue("postgres")
        url = postgres.new_database()
        with closing(Proxy(postgres.port)) as proxy:
            proxied = url.replace(f":{postgres.port}/", f":{proxy.port}/")
            yield Wire(url, proxied, proxy, b"COMMIT")
    else:
        rqlite: Rqlite = request.getfixturevalue("rqlite")
        with closing(Proxy(rqlite.leader())) as proxy:
            yield Wire(rqlite.url, f"rqlite://127.0.0.1:{proxy.port}", proxy, b"INSERT INTO")


@pytest.fixture
def engine(wire: Wire) -> Iterator[Engine]:
    made = open_engine(wire.proxied)
    yield made
    made.close()


@LOSSES
def test_the_caller_hears_of_one_commit(
    wire: Wire, engine: Engine, how: How, opened: Opener
) -> None:
    begin(opened(wire.url))
    store = Store(engine)
    wire.proxy.lose(wire.last, how)
    commit_id = change(store, 2, replace(KEY, uses=1))
    assert wire.proxy.sprung.is_set()
    assert [point.commit_id for point in store.log_since("home", 1, 9)] == [commit_id]
    use_key(store)
    assert stored(store, AccessKey)[0].uses == 2


@LOSSES
def test_the_engine_is_uncertain(wire: Wire, engine: Engine, how: How) -> None:
    Store(engine)
    insert = compile_query(engine, MetaRow.insert(name="a", value="x"))
    wire.proxy.lose(wire.last, how)
    with pytest.raises(Uncertain):
        engine.write([insert])
    if how != LATE:
        names = engine.read(compile_query(engine, MetaRow.select(MetaRow.name)))
        assert (("a",) in names) == (how == AFTER)


def test_a_database_that_stays_away_leaves_it_open(
    wire: Wire, engine: Engine, monkeypatch: pytest.MonkeyPatch, opened: Opener
) -> None:
    begin(opened(wire.url))
    store = Store(engine)
    monkeypatch.setattr(store_module, "SETTLE_SECONDS", 0.5)
    wire.proxy.lose(wire.last, AFTER)
    wire.proxy.refuse_after_loss = True
    with pytest.raises(StoreUnavailable, match="may have been made"):
        change(store, 2, replace(KEY, uses=1))
    assert stored(opened(wire.url), AccessKey)[0].uses == 1
