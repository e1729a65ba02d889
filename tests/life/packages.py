"""Debian packages for hosts of the lab, unpacked there: the machine itself installs nothing."""

from __future__ import annotations

import fcntl
import os
import re
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.lab import Host

_ARCHIVES = Path("/var/cache/apt/archives")
_INSTALL = ("apt-get", "install", "--yes", "--quiet=2", "--no-install-recommends")
_UNPACK = """\
for deb; do
	dpkg-deb --fsys-tarfile "$deb" |
		tar --extract --directory=/ --strip-components=1 --no-overwrite-dir --keep-directory-symlink
done
"""


def fetch(*packages: str) -> tuple[str, ...]:
    """The archives of those of the packages, and of what they need, that the machine lacks.

    To be called before there are hosts: a host may not see what comes later.
    """
    missing = [package for package in packages if not _is_installed(package)]
    if not missing:
        return ()
    with _one_at_a_time():
        return _fetch(missing)


@contextmanager
def _one_at_a_time() -> Iterator[None]:
    """Tests run side by side, apt does not."""
    handle = os.open(_ARCHIVES, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def _fetch(missing: list[str]) -> tuple[str, ...]:
    if _apt("--download-only", *missing).returncode:
        subprocess.run(["apt-get", "update", "--quiet=2"], check=True, timeout=300)
        done = _apt("--download-only", *missing)
        assert done.returncode == 0, done.stderr
    plan = _apt("--simulate", *missing).stdout
    found = re.findall(r"^Inst (\S+) (?:\[\S+\] )?\((\S+) .*\[(\w+)\]\)", plan, re.MULTILINE)
    names = (f"{name}_{version.replace(':', '%3a')}_{cpu}.deb" for name, version, cpu in found)
    return tuple(str(_ARCHIVES / name) for name in names)


def unpack(host: Host, archives: tuple[str, ...]) -> None:
    """Put the packages' files in place; no script of theirs runs, no service is started."""
    host.run("sh", "-euc", _UNPACK, "sh", *archives)


def _is_installed(package: str) -> bool:
    query = ["dpkg-query", "--show", "--showformat=${db:Status-Status}", package]
    return subprocess.run(query, capture_output=True, check=False).stdout == b"installed"


def _apt(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*_INSTALL, *arguments], capture_output=True, text=True, timeout=300, check=False
    )
