"""A real systemd in a host of the lab: process 1 of a PID namespace of its own.

It knows no units but a few targets and those that tests install, so it does nothing to the machine:
no udev, no sysctl, no tmpfiles. Its control group is a child of the machine's, gone at the end.
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from uuid import uuid4

from tests.lab import Host, poll

TARGETS = (
    "basic", "multi-user", "network", "network-online", "shutdown", "sysinit", "system-update",
)  # fmt: skip
TARGET = "[Unit]\nDefaultDependencies=no\n"

# $1: the control group. systemd finds itself at the root of the tree that it sees.
_BOOT = """\
mkdir -p /run/tree
mount -t cgroup2 cgroup2 /run/tree
mkdir "/run/tree/$1"
echo $$ >"/run/tree/$1/cgroup.procs"
umount /run/tree
exec unshare --cgroup --pid --mount --fork --kill-child sh -euc '
mount -t proc proc /proc
mount -t cgroup2 cgroup2 /sys/fs/cgroup
exec env container=lab SYSTEMD_UNIT_PATH=/etc/systemd/system \
	/lib/systemd/systemd --system --log-target=null --show-status=no --unit=multi-user.target'
"""
_REMOVE = """\
mount -t cgroup2 cgroup2 /run/tree
[ ! -e "/run/tree/$1" ] || find "/run/tree/$1" -depth -type d -exec rmdir {} +
"""


class Systemd:
    """A systemd that has booted, and commands beside it."""

    def __init__(self, host: Host, pid: str) -> None:
        self._inside = ("nsenter", f"--target={pid}", "--pid", "--mount", "--cgroup", "--")
        self.host = host

    def run(
        self, *command: str, typed: str | None = None, check: bool = True
    ) -> subprocess.CompletedProcess[str]:
        """As Host.run, where systemd is process 1."""
        return self.host.run(*self._inside, *command, input=typed, check=check)

    def wait(self) -> None:
        """Wait until all that starts with the machine has been started."""
        command = ("systemctl", "is-system-running")
        poll(lambda: self.run(*command, check=False).stdout == "running\n", 60, "system that runs")

    def show(self, unit: str, what: str) -> str:
        """A property of a unit."""
        return self.run("systemctl", "show", "--value", f"--property={what}", unit).stdout.strip()


def prepare(host: Host) -> None:
    """Leave a host with the units of `TARGETS` alone."""
    host.run("sh", "-c", "rm -rf /etc/systemd/system/*")
    for name in TARGETS:
        host.write(f"/etc/systemd/system/{name}.target", TARGET)


@contextmanager
def booted(host: Host) -> Iterator[Systemd]:
    """Boot systemd in a prepared host, and pull its plug at the end."""
    group = f"lab-{uuid4().hex}"
    process = host.start("sh", "-euc", _BOOT, "sh", group)
    try:
        system = Systemd(host, poll(lambda: _find(host), 10, "systemd"))
        system.wait()
        yield system
    finally:
        process.kill()
        process.wait()
        remove = ("unshare", "--mount", "sh", "-euc", _REMOVE, "sh", group)
        poll(lambda: host.run(*remove, check=False).returncode == 0, 10, "end of its control group")


def _find(host: Host) -> str:
    """The number of the process that is a host's systemd; it forks others of that name."""
    return host.run("pgrep", "--exact", "--oldest", "systemd", check=False).stdout.strip()
