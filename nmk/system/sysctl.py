"""Kernel settings below /proc/sys (sysctl(8), proc_sys(5)), by their paths there."""

from __future__ import annotations

import os
from pathlib import Path

from nmk.errors import CommandFailed
from nmk.system.runner import Runner

_ROOT = Path("/proc/sys")
_CMDLINE = Path("/proc/cmdline")
_NO_IPV6 = "the kernel has none"


def read(path: str) -> str | None:
    """A setting's value; None where the kernel has no such setting."""
    try:
        return (_ROOT / path).read_text().strip()
    except OSError:
        return None


def is_on(path: str) -> bool:
    """Whether a switch is on: to the kernel any number but 0 is, below 0 too (kernel: ip-sysctl).

    Not one that the kernel does not have.
    """
    return read(path) not in {None, "0"}


def forwards(interface: str) -> bool:
    """Whether the kernel passes on what comes by an interface, also by one that is yet to be made.

    IPv4 asks the interface, which starts with what `default` says; IPv6 asks `all`, and from Linux
    6.17 on the interface's `force_forwarding` (kernel: ip-sysctl).
    """
    conf, six = "net/ipv4/conf/{}/forwarding", "net/ipv6/conf/{}/force_forwarding"
    places = ("all", "default", interface)
    asked = ("net/ipv6/conf/all/forwarding", *(p.format(i) for p in (conf, six) for i in places))
    return any(map(is_on, asked))


def opens_loopback() -> bool:
    """Whether what listens on 127.0.0.1 alone can be reached from outside, by any interface.

    Either setting is enough, and a new interface starts with `default` (kernel: ip-sysctl,
    route_localnet).
    """
    return any(is_on(f"net/ipv4/conf/{name}/route_localnet") for name in ("all", "default"))


def lowest_port() -> int:
    """The lowest port that the kernel gives to a connection, of IPv6 too (kernel: ip-sysctl)."""
    return int((read("net/ipv4/ip_local_port_range") or "32768").split()[0])


def why_no_ipv6(interface: str) -> str | None:
    """What keeps IPv6 off an interface, also one that is yet to be made; None where nothing does.

    A new interface starts with the setting of `default` (kernel: ip-sysctl, disable_ipv6).
    """
    for name in (interface, "default"):
        value = read(f"net/ipv6/conf/{name}/disable_ipv6")
        if value is not None:
            return None if value == "0" else f"net.ipv6.conf.{name}.disable_ipv6 is {value}"
    return _NO_IPV6


def ipv6_hint(reason: str) -> str:
    """What gives the machine IPv6, where it has none for a reason of `why_no_ipv6`."""
    if reason != _NO_IPV6:
        on = "net.ipv6.conf.all.disable_ipv6=0 net.ipv6.conf.default.disable_ipv6=0"
        return f"sysctl -w {on}; or leave it so"
    try:
        is_off = "ipv6.disable=1" in _CMDLINE.read_text().split()
    except OSError:
        is_off = False
    without = "without ipv6.disable=1" if is_off else "that has IPv6"
    return f"start a kernel {without}, or leave it so"


def paths(pattern: str) -> list[str]:
    """The settings whose paths fit a pattern."""
    return sorted(str(path.relative_to(_ROOT)) for path in _ROOT.glob(pattern))


def is_writable(path: str) -> bool:
    """Whether it looks so: not where /proc/sys is mounted read-only (access(2), EROFS)."""
    return os.access(_ROOT / path, os.W_OK)


def write(run: Runner, path: str, value: str) -> None:
    """Set it, or show that it would be. Raises CommandFailed."""
    run.show(f"[#] echo {value} > {_ROOT / path}")
    if run.dry:
        return
    try:
        (_ROOT / path).write_text(value)
    except OSError as error:
        raise CommandFailed(
            f"{_ROOT / path} cannot be set to {value}: {error.strerror}",
            "in a container, set it on the host",
        ) from None
