"""A host's disk: the machine's files as they are, with a layer of its own over them."""

from __future__ import annotations

import os
import shlex
import shutil
import stat
from pathlib import Path
from tempfile import mkdtemp

CHECKOUT = Path(__file__).resolve().parents[2]

# All of the root that a host may write to; the rest is mounted read-only.
WRITABLE = ("etc", "home", "opt", "root", "srv", "tmp", "usr", "var")

# An nmk of the machine's own is not there for hosts.
HIDDEN = ("etc/nmk", "usr/local/bin/nmk", "var/cache/nmk", "var/lib/nmk")

PYTHON_LIBRARIES = (
    "root/.local/lib/python3*/site-packages",
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
    """The upper layers of one host, in a directory that outlives its reboots."""

    def __init__(self, directory: Path, hostname: str, bare_python: bool) -> None:
        self.directory = directory
        self._upper = directory / "upper"
        self._tops = [
            top for top in WRITABLE if Path("/", top).is_dir() and not Path("/", top).is_symlink()
        ]
        self._upper.mkdir(parents=True)
        for top in self._tops:
            self._make_like_below(Path(top))
        for path, text in FILES.items():
            (self._upper / path).write_text(text.format(name=hostname))
        hidden = [Path("/", path) for path in HIDDEN]
        if bare_python:
            hidden += [found for glob in PYTHON_LIBRARIES for found in Path("/").glob(glob)]
        for below in hidden:
            if below.exists():
                self._hide(below.relative_to("/"))

    def mount_script(self) -> str:
        """Shell commands that put this disk in place, in a mount namespace of its own."""
        # A volatile overlay neither syncs nor can be mounted again with its old work directory.
        work = Path(mkdtemp(prefix="work-", dir=self.directory))
        overlays = []
        for top in self._tops:
            (work / top).mkdir()
            layers = f"lowerdir=/{top},upperdir={self._upper / top},workdir={work / top}"
            overlays.append(f"mount -n -t overlay -o volatile,{layers} overlay /{top}")
        # The checkout stays as it is, wherever it lies: never a layer of its own over it.
        kept, checkout = shlex.quote(str(work / "checkout")), shlex.quote(str(CHECKOUT))
        (work / "checkout").mkdir()
        before = f"mount -n --bind {checkout} {kept}"
        after = (
            f"mount -n --bind {kept} {checkout}",
            f"mount -n -o remount,bind,ro {checkout}",
        )
        # /run comes last: it hides the lab's own directory.
        return "\n".join([before, *overlays, *after, *MOUNTS])

    def _make_like_below(self, path: Path) -> None:
        """Make a directory of the upper layer with the mode and owner of the one below."""
        below, above = Path("/", path), self._upper / path
        if above.exists():
            return
        self._make_like_below(path.parent)
        above.mkdir()
        shutil.copystat(below, above)
        os.chown(above, below.stat().st_uid, below.stat().st_gid)

    def _hide(self, path: Path) -> None:
        """Make a path of the layer below look absent, by overlayfs's whiteout."""
        self._make_like_below(path.parent)
        os.mknod(self._upper / path, stat.S_IFCHR, os.makedev(0, 0))


MOUNTS = (
    "mount -n -o remount,bind,ro /",
    "mount -n -t proc proc /proc",
    "mount -n -t sysfs sysfs /sys",
    "mount -n -t tmpfs tmpfs /dev/shm",
    "mount -n -t tmpfs -o mode=755 tmpfs /run",
)
