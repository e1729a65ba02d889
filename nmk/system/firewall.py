"""The packet filter of this machine, nft's and iptables'. Only looks."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from nmk.core.firewall import Kind, Table
from nmk.errors import CommandFailed, CommandUnanswered
from nmk.system.iptables_rules import parse_rules
from nmk.system.nft_rules import parse_ruleset
from nmk.system.runner import Runner
from nmk.tools import has_tool

_LEGACY = {  # tables that the old iptables has in the kernel; asking it for others makes them
    "iptables": Path("/proc/net/ip_tables_names"),
    "ip6tables": Path("/proc/net/ip6_tables_names"),
}
_FAMILIES = {"iptables": "ip", "ip6tables": "ip6"}


def read_tables(run: Runner, kind: Kind = "filter") -> list[Table] | None:
    """All chains of a kind; None where there is no program to ask. Raises CommandFailed.

    What iptables made inside nft is asked of iptables, which knows its own conditions best.
    """
    if not has_tool("nft"):
        return _read_legacy(run, kind) if any(map(has_tool, _LEGACY)) else None
    tables = parse_ruleset(run.read(["nft", "--json", "list", "ruleset"]), kind)
    for tool, family in _FAMILIES.items():
        name = f"{family} {kind}"
        if has_tool(tool) and any(t.name == name for t in tables):
            with suppress(CommandFailed):  # no table of iptables' after all
                theirs = parse_rules(run.read([tool, "-t", kind, "-S"]), name, tool)
                tables = [*(t for t in tables if t.name != name), theirs]
    return tables + _read_legacy(run, kind)


def legacy_rules(run: Runner, table: str) -> Iterator[tuple[str, str, str]]:
    """What the old iptables has in a table of each family: that, the program, what it prints.

    Raises CommandUnanswered where it may not look.
    """
    for tool, names in _LEGACY.items():
        legacy = f"{tool}-legacy" if has_tool(f"{tool}-legacy") else tool
        if has_tool(legacy) and table in _lines(names):
            try:
                yield _FAMILIES[tool], legacy, run.read([legacy, "-t", table, "-S"])
            except CommandUnanswered:
                raise
            except CommandFailed:  # this iptables speaks nft, and has been asked
                continue


def _read_legacy(run: Runner, kind: Kind) -> list[Table]:
    return [
        parse_rules(text, f"{family} {kind}", tool)
        for family, tool, text in legacy_rules(run, kind)
    ]


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text().split()
    except OSError:
        return []
