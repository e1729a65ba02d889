"""What a network needs beside its interface: packet filter, kernel settings, routes."""

from __future__ import annotations

from nmk.agent import surroundings
from nmk.agent.desired import Local, desired
from nmk.agent.membership import Membership
from nmk.agent.tick import collect_facts
from nmk.core.claims import holds
from nmk.core.findings import Finding
from nmk.core.gateways import Gateway
from nmk.core.routes import Routing
from nmk.system import wireguard
from nmk.system.routes import places
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
    found += _routes_in_the_way(me, wish.routing, run)
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


def _routes_in_the_way(me: Membership, routing: Routing, run: Runner) -> list[Finding]:
    """The ranges that a route of the main table takes from the gateway that they should go by."""
    led = [route for route in routing.routes if route.gateway]
    taken = [
        (route, place)
        for place in (places(run, leave_out=me.interface) if led else ())
        for route in led
        if holds(place.cidr, route.range)
    ]
    return [
        Finding(
            "gateway",
            "warn",
            f"{route.range} does not go by {route.gateway}: "
            f"this machine has a route to {place.cidr} by {place.interface}",
            f"ip route del {place.cidr} dev {place.interface}, or leave it so",
            me.network,
        )
        for route, place in taken
    ]


def _interfaces(gateway: Gateway) -> list[str]:
    named = (gateway.egress, gateway.exit)
    return sorted({role.interface for role in named if role and role.interface})
