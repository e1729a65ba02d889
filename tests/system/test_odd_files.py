"""What the machine's own files hold is not always what they should: nothing ends in a traceback."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from nmk.system import facts, filesystem, needs, starters, wireguard

Lay = Callable[[Path], object]
ODD: dict[str, Lay] = {
    "nothing": lambda _: None,
    "a pipe": os.mkfifo,
    "a directory": Path.mkdir,
    "a loop": lambda path: path.symlink_to(path),
    "binary": lambda path: path.write_bytes(bytes(range(256)) * 100),
}


@pytest.mark.parametrize("lay", ODD.values(), ids=ODD.keys())
def test_odd_files(tmp_path: Path, lay: Lay, monkeypatch: pytest.MonkeyPatch) -> None:
    modules = tmp_path / "modules" / os.uname().release
    modules.mkdir(parents=True)
    lay(modules / "modules.dep")
    monkeypatch.setattr(wireguard, "_LOADED", tmp_path / "absent")
    monkeypatch.setattr(wireguard, "_MODULES", tmp_path / "modules")
    assert not wireguard.kernel_has_wireguard()
    (modules / "modules.builtin").write_bytes(b"\xff kernel/net/wireguard/wireguard.ko\n")
    assert wireguard.kernel_has_wireguard()

    odd = tmp_path / "odd.conf"
    lay(odd)
    monkeypatch.setattr(starters, "_CRONTABS", (str(odd),))
    assert starters.crontab() is None
    monkeypatch.setattr(needs, "_DIRECTORIES", (str(tmp_path),))
    monkeypatch.setattr(needs, "_AFTER", (str(odd),))
    assert needs._file_that_sets("net/ipv4/ip_forward") is None
    assert isinstance(facts._read(odd) if not odd.is_fifo() else "", str)


def test_a_mount_point_with_a_name_that_is_no_text(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mounts = tmp_path / "mountinfo"
    mounts.write_bytes(b"21 1 8:1 / / rw - ext4 a rw\n22 21 0:20 / /mnt/\xff rw - tmpfs b rw\n")
    monkeypatch.setattr(filesystem, "_MOUNTINFO", mounts)
    assert not filesystem.is_volatile(Path("/var/lib/nmk"))
    assert filesystem.is_volatile(Path(os.fsdecode(b"/mnt/\xff/x")))
