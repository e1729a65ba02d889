"""What a machine has that programs could leave behind."""

from __future__ import annotations

from collections.abc import Iterator

from tests.lab import Host

UNPACKED = "/var/cache/nmk"
COMMANDS = {
    "process": "ps -e -o args=",
    "interface": "ls /sys/class/net",
    "address": "ip -brief address",
    "route": "ip route show table all; ip -6 route show table all",
    "rule": "ip rule; ip -6 rule; nft list ruleset",
    "run": "find /run",
}


def traces(host: Host, *, program: bool = False) -> set[str]:
    """Files, processes, interfaces, addresses, routes and rules, a line each.

    `program`: with the installed file and what it keeps unpacked.
    """
    found = {f"file {path}" for path in own_files(host, program=program)}
    for kind, command in COMMANDS.items():
        lines = host.run("sh", "-c", command).stdout.splitlines()
        kept = (line for line in lines if not (line.endswith(command) or has_ended(kind, line)))
        found |= {f"{kind} {line}" for line in kept}
    return found


def has_ended(kind: str, line: str) -> bool:
    """Whether it is a process, and has no memory: ps(1) has its name alone then, in brackets."""
    return kind == "process" and line.startswith("[")


def own_files(host: Host, *, program: bool = False) -> Iterator[str]:
    """All that is on the host's own layer of disk: what it wrote, and did not remove again.

    `program`: with what the installed file keeps unpacked.
    """
    return map(str, host.disk.written(but="" if program else UNPACKED))
