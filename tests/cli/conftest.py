from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.engines.plugin import MakeDatabase
from tests.server.process import Controller, started


@pytest.fixture(scope="module")
def controller(
    tmp_path_factory: pytest.TempPathFactory, make_shared_database: MakeDatabase
) -> Iterator[Controller]:
    """A running controller for all tests of a file."""
    data = tmp_path_factory.mktemp("controller") / "data"
    with started(data, make_shared_database(data / "nmk.db")) as made:
        yield made
