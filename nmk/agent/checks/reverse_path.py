"""Whether a reverse path filter takes what WireGuard and the agent get by the way outside."""

from __future__ import annotations

import shlex

from nmk.agent.membership import Membership
from nmk.core.commands import command
from nmk.core.findings import Finding, Level
from nmk.core.routes import Routing
from nmk.core.ruleset import table_name
from nmk.system.reverse_path import Strict, strict_rules, strict_settings
from nmk.system.runner import Runner
from nmk.tools import has_tool, install_hint

_NAME = "reverse-path"


def check_reverse_path(me: Membership, routing: Routing, run: Runner) -> list[Finding]:
    """Strict filters, where routing makes answers leave by the tunnel unless they carry the mark.

    Those of nft and iptables look before the mark is there. The kernel's own for IPv4 is told of it
    by `src_valid_mark` and by rules that need nft.
    """
    if not routing.table:
        return []
    strict = strict_rules(run, table_name(""))
    found = [_describe(me, routing, rule) for rule in strict]
    settings = strict_settings() if not has_tool("nft") else []
    if settings:
        reason = (
            f"net.ipv4.conf.{settings[0]}.rp_filter is 1, and without nft the kernel is not told "
            "which packets came past the tunnel: it drops those of WireGuard"
        )
        mend = f"{install_hint('nft')}; or: sysctl -w net.ipv4.conf.all.rp_filter=2"
        found.append(Finding(_NAME, "broken", reason, mend, me.network))
    return found or [Finding(_NAME, "ok", "no strict filter is in the way", network=me.network)]


def _describe(me: Membership, routing: Routing, strict: Strict) -> Finding:
    families = " and ".join(f"IPv{family}" for family in strict.families)
    lost = (
        f"with the exit node {routing.exit} it drops what comes for WireGuard and from the "
        f"controller by {families}: the mesh, the exit node and check-ins fail"
        if routing.exit
        else f"it drops what comes by {families} from addresses in the ranges that are routed here"
    )
    level: Level = "broken" if routing.exit else "warn"
    reason = f"{strict.table} {strict.chain} has `{strict.rule}`: {lost}"
    table = strict.table.split()
    mend = (
        f"{command('nft', '-a', 'list', 'chain', *table, strict.chain)}, then: "
        f"{command('nft', 'delete', 'rule', *table, strict.chain, 'handle', 'N')}"
    )
    if strict.tool:
        words = shlex.split(strict.rule.replace("-A", "-D", 1))
        mend = command(strict.tool, "-t", table[1], *words)
    if table[1] == "firewalld":
        mend = (
            "IPv6_rpfilter=no (or loose, where it knows that) in "
            "/etc/firewalld/firewalld.conf; then: firewall-cmd --reload"
        )
    return Finding(_NAME, level, reason, mend, me.network)
