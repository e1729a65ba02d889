"""What drops packets that come in by another interface than answers would leave by. Only looks.

Filters of nft and iptables (nft(8), FIB expressions; iptables-extensions(8), rpfilter), and the
kernel's own for IPv4 (kernel: ip-sysctl, rp_filter).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

from nmk.system import sysctl
from nmk.system.firewall import legacy_rules
from nmk.system.runner import Runner
from nmk.tools import has_tool

_HOME = re.compile(r"\s*(table \S+ (\S+)|chain (\S+)) \{")
# Without the interface (`fib saddr oif missing`) it is a loose one, which any route satisfies.
_STRICT = re.compile(r'fib saddr [^"]*\biif\b[^"]* oif (?:missing|eq 0|0) .*\b(?:drop|reject)\b')
_XT = re.compile(r'(?:xt match "rpfilter"|-m rpfilter).*(?:drop|DROP|reject)')
_LEGACY = re.compile(r"-m rpfilter(?!.*--loose).* -j (?:DROP|REJECT)\b")
_TABLES = ("raw", "mangle")  # where iptables has such rules
_SETTINGS = "net/ipv4/conf/*/rp_filter"


class Strict(NamedTuple):
    """A rule: its table with the family, its chain, the families of packets that it is for.

    `tool`: the old iptables that has it, "" where nft has.
    """

    table: str
    chain: str
    rule: str
    families: tuple[int, ...]
    tool: str = ""


def strict_rules(run: Runner, own: str) -> list[Strict]:
    """Rules in tables whose names do not begin with `own`. Raises CommandFailed."""
    found, table, chain = [*_legacy_rules(run)], "", ""
    if not has_tool("nft"):
        return found
    for line in run.read(["nft", "--stateless", "list", "ruleset"]).splitlines():
        if match := _HOME.match(line):
            if match[3]:
                chain = match[3]
            else:
                table = match[1].removeprefix("table ")
        elif (_STRICT.search(line) or _XT.search(line)) and not table.split()[1].startswith(own):
            found.append(Strict(table, chain, line.strip(), _families(table, line)))
    return found


def _legacy_rules(run: Runner) -> Iterator[Strict]:
    for table in _TABLES:
        for family, tool, text in legacy_rules(run, table):
            for line in filter(_LEGACY.search, text.splitlines()):
                families = _families(f"{family} ", line)
                yield Strict(f"{family} {table}", line.split()[1], line, families, tool)


def strict_settings() -> list[str]:
    """Interfaces on which the kernel filters so; the higher of `all` and their own counts."""
    values = {}
    for path in sysctl.paths(_SETTINGS):
        value = sysctl.read(path) or "0"
        values[path.split("/")[3]] = int(value) if value.isdecimal() else 0
    everywhere = values.pop("all", 0)
    values.pop("default", None)
    return sorted(name for name, value in values.items() if max(value, everywhere) == 1)


def _families(table: str, line: str) -> tuple[int, ...]:
    if table.startswith("ip6 ") or "nfproto ipv6" in line:
        return (6,)
    return (4,) if table.startswith("ip ") or "nfproto ipv4" in line else (4, 6)
