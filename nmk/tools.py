"""Which programs this machine has, and how it gets those that it lacks.

A hint names only what can be done where it is printed: by the package manager that is there, with
its name for the package.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

SYSTEMD = Path("/run/systemd/system")

_SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_EVERYWHERE = {
    "iptables": "iptables",
    "ip6tables": "iptables",
    "nft": "nftables",
    "wg": "wireguard-tools",
}
_DEBIAN = {
    "ip": "iproute2",
    "ping": "iputils-ping",
    "ssh": "openssh-client",
    "libpq": "libpq5",
    "curl": "curl",
    "wireguard-go": "wireguard-go",
}
_FEDORA = {"ip": "iproute", "ping": "iputils", "ssh": "openssh-clients", "libpq": "libpq"}
_SUSE = {"ip": "iproute2", "ping": "iputils", "ssh": "openssh-clients", "libpq": "libpq5"}
_ARCH = {"ip": "iproute2", "ping": "iputils", "ssh": "openssh", "libpq": "postgresql-libs"}
_ALPINE = {
    "ip": "iproute2",
    "ping": "iputils",
    "ssh": "openssh-client",
    "libpq": "libpq",
    "wireguard-go": "wireguard-go",
}
_OPENWRT = {
    "ip": "ip-full",
    "ping": "iputils-ping",
    "ssh": "openssh-client",
    "libpq": "libpq",
    "wireguard-go": "kmod-wireguard",
}
MANAGERS: dict[str, tuple[str, dict[str, str]]] = {
    "apt-get": ("apt-get install", _DEBIAN),
    "dnf": ("dnf install", _FEDORA),
    "yum": ("yum install", _FEDORA),
    "zypper": ("zypper install", _SUSE),
    "pacman": ("pacman -S", _ARCH),
    "apk": ("apk add", _ALPINE),
    "opkg": ("opkg install", _OPENWRT),
}
"""By the program: the command that installs, and its packages by what is in them."""
_NO_PACKAGE = {
    "wireguard-go": "use a kernel with WireGuard (Linux 5.6 or later), or put wireguard-go into "
    "/usr/local/bin",
    "ping": "install the ping of iputils in this machine's own way",
    "ssh": "install the client of OpenSSH in this machine's own way",
}


def search_path() -> str:
    """Where programs are: root's directories count whatever PATH says (cron's has few)."""
    return os.pathsep.join(filter(None, (os.environ.get("PATH"), _SYSTEM_PATH)))


def has_tool(name: str) -> bool:
    """Whether a program is installed."""
    from shutil import which  # with all that it can unpack: too much for each start

    return which(name, path=search_path()) is not None


def install_hint(tool: str) -> str:
    """What installs a tool on this machine, as far as that is known."""
    for manager, (command, packages) in MANAGERS.items():
        package = packages.get(tool, _EVERYWHERE.get(tool))
        if package and has_tool(manager):
            return f"{command} {package}"
    return _NO_PACKAGE.get(tool, f"install {tool} in this machine's own way")


def root_hint() -> str:
    """How a command is run as root here."""
    return "run it again with sudo" if has_tool("sudo") else "run it again as root"


def fetch_hint(url: str) -> str | None:
    """The command that shows whether a URL answers."""
    if has_tool("curl"):
        return f"curl {url}"
    return f"wget -qO- {url}" if has_tool("wget") else None


def clock_hint() -> str:
    """What sets the clock."""
    by_hand = "set the clock by hand, with date"
    if has_tool("timedatectl") and systemd_runs():
        return f"timedatectl set-ntp true, or {by_hand}"
    return by_hand


def systemd_runs() -> bool:
    """Whether systemd is this machine's service manager (sd_booted(3))."""
    return SYSTEMD.is_dir()


def nmk_command(words: Sequence[str]) -> str:
    """Which command of nmk a process is, by its command line; "" where it is another program.

    The file is started as such, by a Python with options, or by the shell in its first line.
    """
    for word, command in pairwise(words[:4]):
        if word.rpartition("/")[2] == "nmk" and command.isalpha():
            return command
    return ""
