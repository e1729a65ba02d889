"""What a network needs beside its interface: packet filter, kernel settings, routes."""

from __future__ import annotations

from nmk.agent import surroundings
from nmk.agent.desired import Local, desired
from nmk.agent.membership import Membership
from nmk.agent.tick import collect_facts
from nmk.core.findings import Finding
from nmk.core.gateways import Gateway
from nmk.system import wireguard
from nmk.system.runner import Runner, has_tool

_MOST = 3  # differences: what a line has room for


def check_surroundings(me: Membership, run: Runner, local: Local) -> list[Finding]:
    """Whether a gateway, and a machine that gateways lead, has what that takes."""
    wish = desired(me, local, collect_facts(me, local).lan)
    view = me.known.view if me.known else None
    gateway = view.gateway if view else Gateway()
    found = [
        Finding(
            "gateway",
            "warn",
            f"there is no interface {name}, by which a gateway of it shall route",
            f"on the controller: nmk gateway add -n {me.network} NODE ROLE --interface IF",
            me.network,
        )
        for name in _interfaces(gateway)
        if not wireguard.exists(name)
    ]
    if wish.surroundings.ruleset and not has_tool("nft"):
        reason = "nft is not installed: this machine can be no gateway and use no exit node"
        mend = "apt-get install nftables"
        return [*found, Finding("gateway", "broken", reason, mend, me.network)]
    if wish.routing.problem:
        mend = f"nmk set -n {me.network} exit-node=NODE, or empty for none"
        found.append(Finding("gateway", "broken", wish.routing.problem, mend, me.network))
    lines = [c.line for c in surroundings.plan(me, wish.surroundings, run).changes]
    if me.down or not lines:
        roles = ", ".join(wish.roles) or "none here"
        reason = f"roles: {roles}; filter, forwarding and routes are as they should be"
        return [*found, Finding("gateway", "ok", reason, network=me.network)]
    more = f"; and {len(lines) - _MOST} more" if len(lines) > _MOST else ""
    reason = f"not as it should be, the next check-in would: {'; '.join(lines[:_MOST])}{more}"
    mend = f"nmk checkin -n {me.network}"
    return [*found, Finding("gateway", "broken", reason, mend, me.network)]


def _interfaces(gateway: Gateway) -> list[str]:
    named = (gateway.egress, gateway.exit)
    return sorted({role.interface for role in named if role and role.interface})
