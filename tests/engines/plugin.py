"""Databases for tests: the option `--db ENGINE` and the fixtures that give fresh ones."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.engines.starters import Postgres, Rqlite, postgres_server, rqlite_cluster

ENGINES = ("sqlite", "postgresql", "rqlite")
MakeDatabase = Callable[[Path], str]


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--db", choices=ENGINES, default=ENGINES[0], help="the engine under the controller's tests"
    )


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


@pytest.fixture(scope="session")
def make_database(request: pytest.FixtureRequest) -> MakeDatabase:
    """Gives the URL of a fresh database of `--db`; of SQLite's the path is the file."""
    return maker(request, request.config.getoption("--db", ENGINES[0]))


def maker(request: pytest.FixtureRequest, engine: str) -> MakeDatabase:
    """The same for an engine by name. Its server starts when it is first wanted."""
    if engine == "postgresql":
        postgres: Postgres = request.getfixturevalue("postgres")
        return lambda _: postgres.new_database()
    if engine == "rqlite":
        cluster: Rqlite = request.getfixturevalue("cluster")

        def emptied(_: Path) -> str:
            """There is one database in a cluster, so one user at a time."""
            cluster.heal()
            cluster.clear()
            return cluster.url

        return emptied
    return lambda path: f"sqlite://{path}"
