from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.hostile.liar import Liar
from tests.lab import Lab
from tests.mesh import Mesh
from tests.reliability.served import Served, serving_home


@pytest.fixture
def liar(state_dir: Path) -> Iterator[Liar]:
    """A controller that is honest until it gets a lie."""
    directory = state_dir.with_name("liar")
    directory.mkdir()
    with Liar(directory) as made:
        yield made


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """`nmk server` with the network `home`, for a module; its log has no mistake of its own."""
    with serving_home(tmp_path_factory.mktemp("served")) as controller:
        yield controller
        assert "internal-error" not in controller.log
        assert "Traceback" not in controller.log


@pytest.fixture
def mesh(lab: Lab) -> Mesh:
    """A controller in the lab, with the network `home`."""
    return Mesh(lab)
