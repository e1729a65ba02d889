"""Files that cannot be read or written, one after the other: that is no mistake of nmk's."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

from nmk.agent import state, uninstall
from nmk.agent.places import chosen
from nmk.errors import FileUnusable, StateDamaged
from nmk.system.filesystem import is_volatile
from nmk.unforeseen import as_ours, ours
from tests.cli.inprocess import nmk
from tests.lab.polling import patient


class Outcome(NamedTuple):
    """`met`: what failed; `left`: in the state directory; `asked`: whether the controller was."""

    met: str
    code: int
    said: str
    left: list[str]
    asked: bool


def outcomes(fault: str, directory: Path, *command: str) -> list[Outcome]:
    done = subprocess.run(
        [sys.executable, "-m", "tests.agent.failing_files", fault, str(directory), *command],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        check=False,
        timeout=patient(60),
    )
    assert done.returncode == 0, done.stderr
    return [Outcome(*json.loads(line)) for line in done.stdout.splitlines()]


def test_a_join_that_fails_leaves_nothing_where_nobody_was_asked(tmp_path: Path) -> None:
    found = outcomes("EROFS", tmp_path, "join", "--interface", "nmk-none", "--daemon", "off")
    assert len(found) > 12
    assert any(one.asked for one in found)
    assert any("home.json cannot be written" in one.said for one in found)
    for one in found:
        assert "internal error" not in one.said, one
        assert "Traceback" not in one.said, one
        assert one.code in {1, 2}, one  # no program works there
        assert one.asked or "home.json" not in one.left, one


@pytest.mark.parametrize(
    "command",
    [
        ["checkin", "--quiet"],
        ["down"],
        ["set", "mtu=1380"],
        ["status"],
        ["leave", "--force"],
    ],
    ids=lambda c: c[0],
)
def test_a_file_that_fails_is_named(tmp_path: Path, command: list[str]) -> None:
    found = outcomes("EIO", tmp_path, *command)
    assert len(found) > 3
    for one in found:
        assert "internal error" not in one.said, one
        assert "Traceback" not in one.said, one
    assert any(
        f"{tmp_path}/ours/state cannot be read: Input/output error" in one.said for one in found
    )


@pytest.mark.parametrize(
    "name", ["EROFS", "ENOSPC", "EDQUOT", "EIO", "EACCES", "ENOTDIR", "EISDIR", "ELOOP"]
)
def test_what_nobody_has_foreseen_names_the_file(
    monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    code: int = getattr(errno, name)

    def fail() -> str:
        raise OSError(code, os.strerror(code), "/srv/some file")

    monkeypatch.setattr("nmk.cli.machine.version_line", fail)
    done = nmk("version")
    assert (done.code, done.out) == (1, "")
    assert f"'/srv/some file' cannot be used: {os.strerror(code)}" in done.err
    assert "internal" not in done.err


def test_no_descriptor_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> str:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE), "/srv/file")

    monkeypatch.setattr("nmk.cli.machine.version_line", fail)
    done = nmk("version")
    assert done.code == 75
    assert "no more files can be opened" in done.err


def test_a_mistake_of_ours_is_still_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nmk.cli.machine.version_line", dict.popitem)
    assert "internal error: TypeError" in nmk("version").err
    assert ours(ConnectionResetError(104, "reset")).code == "internal-error"


def test_a_directory_that_is_none_is_no_machine_without_networks(state_dir: Path) -> None:
    state_dir.rmdir()
    assert state.networks() == []
    state_dir.touch()
    with pytest.raises(StateDamaged, match=f"{state_dir} cannot be read: Not a directory"):
        state.networks()
    state_dir.unlink()
    state_dir.symlink_to(state_dir.name)
    with pytest.raises(StateDamaged, match="Too many levels of symbolic links"):
        state.networks()
    assert is_volatile(state_dir) in {True, False}


@pytest.mark.skipif(os.geteuid() != 0, reason="mounts")
def test_what_cannot_be_removed_is_said(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "file").touch()
    script = f"""
mount --bind {tmp_path}/there {tmp_path}/there
mount -o remount,bind,ro {tmp_path}/there
exec {sys.executable} -c 'from pathlib import Path; from nmk.agent.uninstall import _remove
for name in ("there", "there/file", "nothing"):
    print(getattr(_remove(Path("{tmp_path}") / name), "message", None))'
"""
    done = subprocess.run(
        ["unshare", "--mount", "sh", "-euc", script],
        cwd=Path(uninstall.__file__).parents[2],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.splitlines() == [
        f"{tmp_path}/there cannot be removed: Device or resource busy",
        f"{tmp_path}/there/file cannot be removed: Read-only file system",
        "None",
    ]


def test_a_path_in_a_directory_that_is_gone_is_no_mistake_of_ours(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NMK_STATE_DIR", "here")
    monkeypatch.chdir(tmp_path)
    tmp_path.rmdir()
    with pytest.raises(FileUnusable, match="started in is gone"), as_ours():
        chosen()
