from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from nmk.store.engine import Engine, open_engine
from nmk.store.store import Store
from tests.engines.changes import Opener
from tests.engines.plugin import ENGINES, maker
from tests.engines.starters import Rqlite


@pytest.fixture
def rqlite(cluster: Rqlite) -> Rqlite:  # how fixtures ask for each other
    """The cluster, whole and empty."""
    cluster.heal()
    cluster.clear()
    return cluster


@pytest.fixture(params=ENGINES)
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of a fresh database, of every engine in turn."""
    return maker(request, request.param)(tmp_path / "nmk.db")


@pytest.fixture
def opened() -> Iterator[Opener]:
    """Opens the stores of a test, and closes them after it."""
    engines: list[Engine] = []

    def open_store(url: str) -> Store:
        engines.append(open_engine(url))
        return Store(engines[-1])

    yield open_store
    for engine in engines:
        engine.close()
