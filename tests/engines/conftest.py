from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.engines.starters import Postgres, Rqlite, postgres_server, rqlite_cluster


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """A PostgreSQL server for the whole run."""
    with postgres_server() as server:
        yield server


@pytest.fixture(scope="session")
def cluster() -> Iterator[Rqlite]:
    """A cluster for the whole run."""
    with rqlite_cluster() as made:
        yield made


@pytest.fixture
def rqlite(cluster: Rqlite) -> Rqlite:
    """The cluster, whole and empty."""
    cluster.heal()
    cluster.clear()
    return cluster


@pytest.fixture(params=["sqlite", "postgresql", "rqlite"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of a fresh database, of every engine in turn."""
    if request.param == "sqlite":
        return f"sqlite://{tmp_path}/nmk.db"
    if request.param == "postgresql":
        postgres: Postgres = request.getfixturevalue("postgres")
        return postgres.new_database()
    rqlite: Rqlite = request.getfixturevalue("rqlite")
    return rqlite.url
