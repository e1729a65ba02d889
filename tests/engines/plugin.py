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
def shared_cluster() -> Iterator[Rqlite]:
    """A cluster for what tests of a file share: the other one is cleared beside it."""
    with rqlite_cluster() as made:
        yield made


@pytest.fixture(scope="session")
def make_database(request: pytest.FixtureRequest) -> MakeDatabase:
    """Gives the URL of a fresh database of `--db`; of SQLite's the path is the file."""
    return maker(request, request.config.getoption("--db", ENGINES[0]))


@pytest.fixture(scope="session")
def make_shared_database(request: pytest.FixtureRequest) -> MakeDatabase:
    """The same for one that lasts while tests make others."""
    return maker(request, request.config.getoption("--db", ENGINES[0]), "shared_cluster")


def maker(
    request: pytest.FixtureRequest, engine: str, cluster_name: str = "cluster"
) -> MakeDatabase:
    """The same for an engine by name. Its server starts when it is first wanted."""
    if engine == "postgresql":
        postgres: Postgres = request.getfixturevalue("postgres")
        return lambda _: postgres.new_database()
    if engine == "rqlite":
        cluster: Rqlite = request.getfixturevalue(cluster_name)

        def emptied(_: Path) -> str:
            """There is one database in a cluster, so one user at a time."""
            cluster.heal()
            cluster.clear()
            return cluster.url

        return emptied
    return lambda path: f"sqlite://{path}"
