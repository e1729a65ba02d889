from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nmk.system.filesystem import filesystem_of, is_volatile

MOUNTS = r"""
21 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw
22 21 0:20 / /run rw shared:2 - tmpfs tmpfs rw
23 21 0:21 / /var rw - tmpfs tmpfs rw
24 23 8:2 / /var/lib/nmk rw - xfs /dev/sdb rw
25 21 0:22 / /mnt/with\040space rw master:3 - tmpfs tmpfs rw
26 21 0:23 / /run rw - overlay overlay rw
"""


@pytest.mark.parametrize(
    ("path", "found"),
    [
        ("/", "ext4"),
        ("/home/me", "ext4"),
        ("/runner", "ext4"),
        ("/var/lib", "tmpfs"),
        ("/var/lib/nmk/home.json", "xfs"),
        ("/mnt/with space/x", "tmpfs"),
        ("/run/x", "overlay"),
    ],
)
def test_the_deepest_and_latest_mount_counts(path: str, found: str) -> None:
    assert filesystem_of(Path(path), MOUNTS) == found


@given(st.text())
def test_any_text_is_read(text: str) -> None:
    filesystem_of(Path("/var/lib/nmk"), text)


def test_this_machine() -> None:
    assert is_volatile(Path("/dev/shm/not/there"))
    assert not is_volatile(Path("/usr"))
