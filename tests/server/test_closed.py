"""What the controller keeps is its own, also in a directory that was there before."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from nmk.errors import BadInput, StoreUnusable
from nmk.server.datadir import DataDir
from tests.reliability.served import Served, serving_home

NOBODY = 65534


@pytest.fixture(autouse=True)
def ordinary_umask() -> Iterator[None]:
    before = os.umask(0o022)
    yield
    os.umask(before)


def modes(directory: Path) -> set[int]:
    return {path.stat().st_mode & 0o777 for path in [*directory.iterdir(), directory]}


def test_a_data_directory_that_was_there_before(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir(mode=0o755)
    with serving_home(tmp_path) as served:
        assert {path.name for path in served.data.iterdir()} >= {
            "nmk.db",
            "nmk.db-wal",
            "admin.key",
        }
        assert modes(served.data) == {0o600, 0o700}
        assert served.log.count("closed-to-others") == 1
        assert f"closed-to-others path={served.data} mode=0755" in served.log


def test_files_that_others_can_read(tmp_path: Path) -> None:
    with Served(tmp_path) as served:
        served.stop()
        for path in (served.data / "nmk.db", served.data / "controller.key"):
            path.chmod(0o644)
        (served.data / "nmk.db.schema1").touch(0o644)
        served.start()
        assert modes(served.data) == {0o600, 0o700}
        assert served.log.count("closed-to-others") == 3
        served.stop()
        served.start()
        assert served.log.count("closed-to-others") == 3


@pytest.mark.skipif(os.geteuid() != 0, reason="gives files away")
def test_a_key_of_somebody_else_is_not_taken(tmp_path: Path) -> None:
    key = tmp_path / "controller.key"
    key.write_text("00" * 32)
    os.chown(key, NOBODY, NOBODY)
    tmp_path.chmod(0o777)
    with pytest.raises(StoreUnusable, match="belongs to another user"):
        DataDir(tmp_path)
    assert tmp_path.stat().st_mode & 0o777 == 0o777


@pytest.mark.parametrize("mode", [0o755, 0o1777])
def test_a_directory_of_others_is_left_alone(tmp_path: Path, mode: int) -> None:
    (tmp_path / "else").touch()
    tmp_path.chmod(mode)
    with pytest.raises(BadInput, match="is open to other users and not the controller's alone"):
        DataDir(tmp_path)
    assert tmp_path.stat().st_mode & 0o7777 == mode
    assert [path.name for path in tmp_path.iterdir()] == ["else"]
