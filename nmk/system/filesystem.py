"""What lies below a path: some file systems do not outlive a reboot."""

from __future__ import annotations

import os
import re
from pathlib import Path

_VOLATILE = {"tmpfs", "ramfs"}
_MOUNTINFO = Path("/proc/self/mountinfo")
_ESCAPE = re.compile(r"\\([0-7]{3})")


def is_volatile(path: Path) -> bool:
    """Whether what is written there is gone after a reboot. The path need not exist."""
    try:
        text = _MOUNTINFO.read_text(errors="surrogateescape")
    except OSError:
        return False
    return filesystem_of(Path(os.path.realpath(path)), text) in _VOLATILE


def filesystem_of(path: Path, mountinfo: str) -> str | None:
    """The type of the file system that holds a path, from the lines of proc_pid_mountinfo(5)."""
    best, found = -1, None
    for line in mountinfo.splitlines():
        mount, dash, source = line.partition(" - ")
        fields = mount.split()
        if not dash or len(fields) < 5:
            continue
        point = Path(_ESCAPE.sub(lambda m: chr(int(m[1], 8)), fields[4]))
        depth = len(point.parts)
        if depth >= best and (path == point or point in path.parents):
            best, found = depth, source.split()[0]  # of two on one point the later one is seen
    return found
