"""A small disk on a host, to be filled up or made read-only."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from tests.lab import Host


@dataclass(frozen=True, slots=True)
class SmallDisk:
    """A file system of its own under a directory of the host."""

    host: Host
    path: str

    @classmethod
    def mount(cls, host: Host, path: str, size: str) -> SmallDisk:
        """Put one there; what was in the directory is hidden."""
        host.run("mkdir", "-p", path)
        host.run("mount", "-t", "tmpfs", "-o", f"size={size},mode=755", "tmpfs", path)
        return cls(host, path)

    @contextmanager
    def full(self) -> Iterator[None]:
        """Not a byte left."""
        ballast = f"{self.path}/ballast"
        filled = self.host.run("dd", "if=/dev/zero", f"of={ballast}", "bs=1k", check=False)
        assert "No space left" in filled.stderr
        try:
            yield
        finally:
            self.host.run("rm", ballast)

    @contextmanager
    def read_only(self) -> Iterator[None]:
        """Nothing can be written."""
        self.host.run("mount", "-o", "remount,ro", self.path)
        try:
            yield
        finally:
            self.host.run("mount", "-o", "remount,rw", self.path)
