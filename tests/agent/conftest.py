from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.agent.controllers import RealController


@pytest.fixture
def controller(tmp_path: Path) -> Iterator[RealController]:
    """A controller with the network `home`, answering."""
    directory = tmp_path / "controller"
    directory.mkdir()
    with RealController(directory) as served:
        yield served
