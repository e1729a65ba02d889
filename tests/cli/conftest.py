from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.server.process import Controller, started


@pytest.fixture(scope="module")
def controller(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Controller]:
    """A running controller for all tests of a file."""
    with started(tmp_path_factory.mktemp("controller") / "data") as made:
        yield made
