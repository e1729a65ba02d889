from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.agent.controllers import RealController
from tests.agent.test_machine import Place
from tests.lab import Lab


@pytest.fixture(scope="module")
def place(module_lab: Lab) -> Place:
    """A controller in a lab, and machines as they are asked for."""
    return Place(module_lab)


@pytest.fixture
def controller(tmp_path: Path) -> Iterator[RealController]:
    """A controller with the network `home`, answering."""
    directory = tmp_path / "controller"
    directory.mkdir()
    with RealController(directory) as served:
        yield served
