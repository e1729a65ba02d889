"""A host's disk: the system's files as they are, and nothing of what this machine does with them.

A host sees what Debian's packages have put into /etc, /opt, /usr and /var, with a layer of its own
over it. What people and running programs keep there is hidden, and where they keep nothing else,
as in /root and /tmp, a host has an empty directory of its own. So a test finds the same on every
machine, whatever is installed, joined or left over there.
"""

from __future__ import annotations

import os
import shlex
import shutil
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from tempfile import mkdtemp

CHECKOUT = Path(__file__).resolve().parents[2]

# All of the root that a host may write to; the rest is mounted read-only.
LAYERED = ("etc", "opt", "usr", "var")
OWN = ("home", "root", "srv", "tmp")
SHARED = "/mnt"  # where hosts see the lab's directory `shared`; they cannot write to it

# These are there and empty.
EMPTY = ("etc/cron.d", "etc/wireguard", "var/spool/cron", "var/tmp")

# These are not there, also when they come later. An nmk that is in use writes all the time, and a
# layer over files that change is undefined.
ABSENT = (
    "etc/crontab",
    "etc/crontabs",
    "etc/nmk",
    "usr/local/bin/nmk",
    "var/cache/nmk",
    "var/lib/nmk",
)
SERVICES = (
    "etc/init.d/nmk-*",
    "etc/runlevels/*/nmk-*",
    "etc/ssh/ssh_host_*",
    "etc/systemd/system/nmk-*",
    "etc/systemd/system/*/nmk-*",
    "var/log/nmk-*",
)

PYTHON_LIBRARIES = (
    "usr/lib*/python3*/dist-packages",
    "usr/lib*/python3*/site-packages",
    "usr/local/lib/python3*/dist-packages",
    "usr/local/lib/python3*/site-packages",
)

# With an empty resolv.conf the resolver asks this host, which refuses at once: no test waits
# for name servers that no lab can reach.
FILES = {
    "etc/hostname": "{name}\n",
    "etc/hosts": "127.0.0.1 localhost\n127.0.1.1 {name}\n::1 localhost\n",
    "etc/resolv.conf": "",
}


class Disk:
    """What one host writes, in a directory that outlives its reboots."""

    def __init__(self, directory: Path, shared: Path, hostname: str, bare_python: bool) -> None:
        self.directory = directory
        self._shared = shared
        self._upper = directory / "upper"
        self._layered = list(filter(_is_directory, LAYERED))
        self._own = list(filter(_is_directory, OWN))
        self._upper.mkdir(parents=True)
        for top in (*self._layered, *self._own):
            self._make_like_below(Path(top))
        for path, text in FILES.items():
            (self._upper / path).write_text(text.format(name=hostname))
        for empty in EMPTY:
            self._make_like_below(Path(empty))
            os.setxattr(self._upper / empty, "trusted.overlay.opaque", b"y")
        globs = SERVICES + (PYTHON_LIBRARIES if bare_python else ())
        found = {path.relative_to("/") for glob in globs for path in Path("/").glob(glob)}
        self._absent = found | set(map(Path, ABSENT))
        for absent in self._absent:
            self._hide(absent)

    def mount_script(self) -> str:
        """Shell commands that put this disk in place, in a mount namespace of its own."""
        # A volatile overlay neither syncs nor can be mounted again with its old work directory.
        work = Path(mkdtemp(prefix="work-", dir=self.directory))
        empty = work / "empty"
        empty.mkdir()
        mounts = []
        for top in (*self._layered, *self._own):
            (work / top).mkdir()
            below = empty if top in self._own else f"/{top}"
            layers = f"lowerdir={below},upperdir={self._upper / top},workdir={work / top}"
            mounts.append(f"mount -n -t overlay -o volatile,{layers} overlay /{top}")
        mounts += [f"mount -n --bind {self._shared} {SHARED}"]
        mounts += [f"mount -n -o remount,bind,ro {SHARED}"]
        before, after = [], []
        for number, path in enumerate(_kept()):
            kept, place = shlex.quote(str(work / f"kept-{number}")), shlex.quote(str(path))
            before.append(f"mkdir {kept}; mount -n --bind {place} {kept}")
            after.append(
                f"[ -d {place} ] || mkdir -p {place}; mount -n --bind {kept} {place};"
                f" mount -n -o remount,bind,ro {place}"
            )
        # /run comes last: it hides the lab's own directory.
        return "\n".join([*before, *mounts, *after, *MOUNTS])

    def link(self, place: str, tree: Path) -> None:
        """Put a directory there, its files by hard links; before the first boot."""
        above = self._upper / place.lstrip("/")
        self._make_like_below(above.parent.relative_to(self._upper))
        above.unlink(missing_ok=True)  # a whiteout
        subprocess.run(["cp", "-al", "--", tree, above], check=True)
        os.setxattr(above, "trusted.overlay.opaque", b"y")

    def at(self, place: str) -> Path:
        """Where a file or directory that the host made is, seen from outside; not to write to."""
        return self._upper / place.lstrip("/")

    def written(self, *, but: str = "") -> Iterator[Path]:
        """What the host wrote and did not remove again, and what it removed of the system's.

        `but`: a directory that is left out, with all in it.
        """
        for top, directories, files in os.walk(self._upper):
            directory = Path(top)
            directories[:] = [n for n in directories if directory / n != self.at(but)]
            for above in (directory / name for name in (*directories, *files)):
                path = above.relative_to(self._upper)
                # A directory is copied up for what is, or was, in it.
                copied_up = above.is_dir() and Path("/", path).is_dir()
                if not copied_up and not (path in self._absent and _is_whiteout(above)):
                    yield Path("/", path)

    def _make_like_below(self, path: Path) -> None:
        """Make a directory of the upper layer with the mode and owner of the one below."""
        below, above = Path("/", path), self._upper / path
        if above.exists():
            return
        self._make_like_below(path.parent)
        above.mkdir()
        if below.is_dir():
            shutil.copystat(below, above)
            os.chown(above, below.stat().st_uid, below.stat().st_gid)

    def _hide(self, path: Path) -> None:
        """Make a path of the layer below look absent, by overlayfs's whiteout."""
        self._make_like_below(path.parent)
        os.mknod(self._upper / path, stat.S_IFCHR, os.makedev(0, 0))


def _is_whiteout(path: Path) -> bool:
    status = path.lstat()
    return stat.S_ISCHR(status.st_mode) and not status.st_rdev


def _is_directory(top: str) -> bool:
    return Path("/", top).is_dir() and not Path("/", top).is_symlink()


def _kept() -> Iterator[Path]:
    """What the tests themselves run from stays in sight, wherever it lies, and read-only."""
    yield CHECKOUT
    for path in {Path(sys.prefix), Path(sys.base_prefix)}:
        if path.parts[1] in OWN and not path.is_relative_to(CHECKOUT):
            yield path


MOUNTS = (
    "mount -n -o remount,bind,ro /",
    "mount -n -t proc proc /proc",
    "mount -n -t sysfs sysfs /sys",
    "mount -n -t tmpfs tmpfs /dev/shm",
    "mount -n -t tmpfs -o mode=755 tmpfs /run",
)
