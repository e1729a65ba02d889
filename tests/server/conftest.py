from __future__ import annotations

from collections.abc import Iterator
from itertools import count
from pathlib import Path

import pytest

from tests.engines.plugin import MakeDatabase
from tests.server.process import Controller, started

_numbers = count(1)


@pytest.fixture
def controller(tmp_path: Path, make_database: MakeDatabase) -> Iterator[Controller]:
    """A running controller without networks, on the engine that `--db` names."""
    data = tmp_path / "data"
    with started(data, make_database(data / "nmk.db")) as made:
        yield made


@pytest.fixture(scope="module")
def shared(
    tmp_path_factory: pytest.TempPathFactory, make_shared_database: MakeDatabase
) -> Iterator[Controller]:
    """A running controller for all tests of a file, each in a network of its own."""
    data = tmp_path_factory.mktemp("controller") / "data"
    with started(data, make_shared_database(data / "nmk.db")) as made:
        yield made


@pytest.fixture
def network(shared: Controller) -> str:
    """A network of this test's own on the shared controller."""
    name = f"net{next(_numbers)}"
    made = shared.admin_call("POST", "/v1/networks", {"name": name})
    assert made.status == 201, made.body
    return name
