"""Which places others than root could have laid, or can replace."""

from __future__ import annotations

import os
import struct
from pathlib import Path
from types import SimpleNamespace

import pytest

from nmk.system import foreign
from nmk.system.foreign import find_foreign, find_replaceable, follow

NOBODY = 65534


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A directory that only root can write, in others that are so."""
    directory = tmp_path / "above/state"
    directory.mkdir(parents=True)
    return directory


@pytest.mark.parametrize(
    ("mode", "above", "members", "is_safe"),
    [
        (0o755, 0o755, (), True),
        (0o775, 0o755, (), True),
        (0o755, 0o775, (), True),
        (0o775, 0o755, ("root",), True),
        (0o775, 0o755, ("root", "bob"), False),
        (0o755, 0o775, ("bob",), False),
        (0o777, 0o755, (), False),
        (0o1777, 0o755, (), False),
        (0o755, 0o777, (), False),
        (0o755, 0o1777, (), True),
    ],
)
def test_what_others_can_replace_is_told_by_modes(
    place: Path,
    monkeypatch: pytest.MonkeyPatch,
    mode: int,
    above: int,
    members: tuple[str, ...],
    is_safe: bool,
) -> None:
    group = SimpleNamespace(gr_mem=list(members))
    monkeypatch.setattr(foreign, "grp", SimpleNamespace(getgrgid=lambda _: group))
    place.chmod(mode)
    place.parent.chmod(above)
    assert (find_replaceable(place) is None) == is_safe
    if mode != 0o755 or above != 0o755:
        assert find_foreign(place) is not None  # of what root runs


def test_a_group_of_others_that_can_write_is_others(place: Path) -> None:
    place.chmod(0o775)
    os.chown(place, 0, NOBODY)
    assert find_replaceable(place) == (
        f"{place} can be written by others than root",
        f"chmod go-w {place}",
        False,
    )


@pytest.mark.parametrize("owner", [0, NOBODY])
def test_a_folder_that_others_use_is_not_to_be_closed_to_them(place: Path, owner: int) -> None:
    """As a shared one or somebody's home, with the state in it: that is to be elsewhere."""
    os.chown(place.parent, owner, owner)
    place.parent.chmod(0o777)
    fault = find_replaceable(place)
    assert fault
    assert fault.mend == f"keep it where only root can write: stop nmk, then move {place}"
    assert fault.is_above


def test_a_link_is_followed_where_only_root_can_have_laid_it(place: Path, tmp_path: Path) -> None:
    links = tmp_path / "links"
    links.mkdir()
    (links / "one").symlink_to("../links/two")
    (links / "two").symlink_to(place.parent)
    asked = links / "one" / "state" / ".." / "state"
    assert follow(asked) == (place, None)
    links.chmod(0o1777)
    there, fault = follow(asked)
    assert there == links / "one"
    assert fault
    assert fault == find_replaceable(asked)
    assert fault.reason == f"{links}/one is a symbolic link that others than root can have laid"


def test_a_path_that_leads_nowhere_is_an_error(place: Path) -> None:
    (place / "loop").symlink_to("loop")
    for path in (place / "loop", place / "none", place / ("x" * 300)):
        with pytest.raises(OSError, match=r"Too many|No such|too long"):
            follow(path)


def test_an_access_list_lets_others_in(place: Path) -> None:
    """Of a directory that has one the group's bits are what users in it may do (acl(5))."""
    place.chmod(0o775)
    assert find_replaceable(place) is None
    entries = [(1, 7, -1), (2, 7, NOBODY), (4, 5, -1), (16, 7, -1), (32, 5, -1)]
    acl = struct.pack("<I", 2) + b"".join(struct.pack("<HHi", *entry) for entry in entries)
    try:
        os.setxattr(place, "system.posix_acl_access", acl)
    except OSError:
        pytest.skip("this filesystem has no access lists")
    assert find_replaceable(place)
