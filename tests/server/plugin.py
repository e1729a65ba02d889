"""The pytest fixture `inner`, a controller in the process of the tests."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.server.inside import Inside


@pytest.fixture(scope="module")
def inner(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Inside]:
    """One controller for all tests of a file, on SQLite, whose clock stands."""
    from tests.server.inside import Time, on_sqlite

    with on_sqlite(tmp_path_factory.mktemp("inner"), Time()) as controller:
        yield controller
