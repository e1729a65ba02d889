"""Docker sets the policy of the chain FORWARD to drop, which no other table can undo.

It keeps a chain for the owner of the machine, which is asked first: DOCKER-USER
(docs.docker.com, Packet filtering and firewalls).
"""

from __future__ import annotations

from collections.abc import Sequence

from nmk.core.firewall import Match, Rule, Table
from nmk.core.tunnel import Command

CHAIN = "DOCKER-USER"
TOOLS = {"ip filter": "iptables", "ip6 filter": "ip6tables"}
_SIDES = {"-i": "comes_by", "-o": "goes_by"}


def plan_docker(tables: Sequence[Table], interface: str, *, wanted: bool) -> list[Command]:
    """The commands that let the interface's packets through Docker's rules, or no longer."""
    commands = []
    for table in tables:
        chain = table.chains.get(CHAIN)
        if chain is None or table.name not in TOOLS:
            continue
        for side, field in _SIDES.items():
            rule = Rule((Match(field, (interface.replace("+", "*"),)),), "accept")
            needed = wanted and _drops(table)
            if needed != (rule in chain.rules):
                verb = "-I" if needed else "-D"
                tool = table.tool or TOOLS[table.name]
                words = (tool, "-w", verb, CHAIN, side, interface, "-j", "ACCEPT")
                commands.append(Command(words))
    return commands


def _drops(table: Table) -> bool:
    return any(c.hook == "forward" and c.policy == "drop" for c in table.chains.values())
