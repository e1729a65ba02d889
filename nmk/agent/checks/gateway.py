"""What a network needs beside its interface: packet filter, kernel settings, routes."""

from __future__ import annotations

from ipaddress import ip_network

from nmk.agent import liveness, surroundings
from nmk.agent.claimed import claimed_exit
from nmk.agent.claims import inside_others
from nmk.agent.desired import Desired, Local, desired, desired_when_down
from nmk.agent.exits import LED, WAITS, WayOut, find_way_out, observe
from nmk.agent.membership import Membership
from nmk.agent.settings import command
from nmk.agent.status import led, live
from nmk.agent.tick import collect_facts
from nmk.core.claims import Claim, Holders
from nmk.core.findings import Finding
from nmk.core.forward_chains import FORWARD
from nmk.core.gateways import NO_GATEWAY, OBSTACLES
from nmk.core.routes import Routing
from nmk.core.ruleset import table_name
from nmk.core.sites import unsaid, ways_to_say
from nmk.errors import NoteUnwritable
from nmk.system import filter as filter_
from nmk.system import wireguard
from nmk.system.routes import places
from nmk.system.runner import Runner
from nmk.tools import has_tool, install_hint

_MOST = 3  # differences: what a line has room for


def check_surroundings(me: Membership, run: Runner, local: Local) -> list[Finding]:
    """Whether a gateway, and a machine that gateways lead, has what that takes."""
    wish = desired(me, local, collect_facts(me, local).lan)
    is_idle = me.down or me.phase == "deleted"
    want = desired_when_down(me) if is_idle else wish.surroundings
    if want.ruleset and not (want.is_wall or has_tool("nft")):
        reason = "nft is not installed: this machine can be no gateway and use no exit node"
        mend = install_hint("nft")
        found = [Finding("gateway", "broken", reason, mend, me.network)]
        return [*found, *_check_way_out(me, wish, run)]
    found = [*_check_way_out(me, wish, run), *_claimed_ranges(me, wish)]
    if found and not has_tool("ip"):  # which all that follows needs
        return found
    if not is_idle:
        found += [*_missing_interfaces(me, wish), *_routes_in_the_way(me, wish.routing, run)]
        found += [*_inside_others(me, wish), *_same_lan_unsaid(me), *_led_nowhere(me, wish, run)]
    unseen = filter_.why_unseen(run, table_name(me.network)) if want.ruleset else None
    if unseen:
        lines = []
        finding = Finding("gateway", "broken", unseen.message, unseen.hint, me.network)
        found += [] if finding in found else [finding]
    else:
        lines = [c.line for c in surroundings.plan(me, want, run).changes]
    if lines:
        more = f"; and {len(lines) - _MOST} more" if len(lines) > _MOST else ""
        reason = f"not as it should be, the next check-in would: {'; '.join(lines[:_MOST])}{more}"
        unwritten = (p.hint for p in me.problems if p.code == NoteUnwritable.code)
        mend = next(unwritten, f"nmk checkin -n {me.network}")  # else it is laid each time anew
        found.append(Finding("gateway", "broken", reason, mend, me.network))
    if found:
        return found
    if is_idle:
        reason = f"{me.interface} is down: nothing is routed here, and no filter is left"
        return [Finding("gateway", "ok", reason, network=me.network)]
    reason = f"roles: {_roles(me, wish)}; filter, forwarding and routes are as they should be"
    lans = find_way_out(me, wish.routing, ()).lans
    for state, shut in (("beside the exit node", False), ("shut", True)):
        named = [f"{lan.range} at {lan.interface}" for lan in lans if bool(lan.shut) == shut]
        reason += f"; {state}: {', '.join(named)}" if named else ""
    return [Finding("gateway", "ok", reason, network=me.network)]


def check_kill_switch(network: str, out: WayOut) -> list[Finding]:
    """One that is wanted, and not in the kernel."""
    if out.kill_switch is None or out.kill_switch.laid:
        return []
    reason, mend = str(out.kill_switch.problem), out.kill_switch.next
    return [Finding("gateway", "broken", reason, mend, network)]


def _check_way_out(me: Membership, wish: Desired, run: Runner) -> list[Finding]:
    """An exit node that is none or silent; a kill switch that cuts off, or is not laid."""
    condition, dump = live(me, run)
    silent = liveness.silent(me, dump)
    out = observe(me, find_way_out(me, led(me, wish, condition, run), silent), run)
    found = check_kill_switch(me.network, out)
    if taken := claimed_exit(me, silent, run):
        found += [Finding("gateway", "broken", p.message, p.hint, me.network) for p in taken]
        return found
    ways = way_out_findings(me, out)
    if wish.routing.problem and not ways:
        mend = command(me, "exit-node", "")
        ways = [Finding("gateway", "broken", wish.routing.problem, mend, me.network)]
    return [*found, *ways]


def way_out_findings(me: Membership, out: WayOut) -> list[Finding]:
    """What cuts the machine off, goes past the exit node, or gets nowhere."""
    mend: str | None
    if out.cut_off:
        reason = f"{out.problem}, and so the {out.cut_off.by} lets nothing out but to the LAN"
        mend = out.cut_off.next
    elif out.past:
        reason, mend = f"{out.problem}, not by the exit node {out.node}", out.hint
    elif out.node and out.problem:
        reason, mend = f"everything is sent to {out.node}: {out.problem}", out.hint
    elif out.problem == WAITS:
        hint = f"nmk set -n {me.network} exit-node=NODE"
        return [Finding("gateway", "warn", WAITS, hint, me.network)]
    else:
        return []
    return [Finding("gateway", "broken", reason, mend, me.network)]


def _claimed_ranges(me: Membership, wish: Desired) -> list[Finding]:
    """LANs that have addresses in ranges of gateways, to which a kill switch lets nothing go."""
    mend = f"else {command(me, 'accept-routes', 'off')}"
    return [
        Finding(
            "gateway",
            "warn",
            f"{lan.range} at {lan.interface} is shut by the kill switch: {lan.shut}",
            f"leave that LAN, if the range is not its own; {mend}",
            me.network,
        )
        for lan in find_way_out(me, wish.routing, ()).lans
        if lan.shut and lan.shut.startswith(LED.partition("{")[0])
    ]


def _roles(me: Membership, wish: Desired) -> str:
    """Those that the machine plays, and why it does not play those that it was given."""
    offered = me.known.view.gateway.roles if me.known else ()
    if offered and not wish.roles:
        return f"none here, not {', '.join(offered)}, as {OBSTACLES['accept-roles']}"
    return ", ".join(wish.roles) or "none here"


def _missing_interfaces(me: Membership, wish: Desired) -> list[Finding]:
    """The roles that forward nothing, as the interface that they shall route by is not there."""
    gateway = me.known.view.gateway if me.known and wish.roles else NO_GATEWAY
    name = me.known.view.name if me.known else ""
    roles = {"egress": gateway.egress, "exit": gateway.exit}
    return [
        Finding(
            "gateway",
            "broken",
            f"there is no interface {role.interface}, so {kind} forwards nothing",
            f"on the controller: nmk gateway add -n {me.remote_name} {name} {kind} --interface ''",
            me.network,
        )
        for kind, role in roles.items()
        if role and role.interface and not wireguard.exists(role.interface)
    ]


def _inside_others(me: Membership, wish: Desired) -> list[Finding]:
    """The ranges into which nothing is forwarded, as another network of the machine is there."""
    name = me.known.view.name if me.known else ""
    return [
        Finding(
            "gateway",
            "broken",
            f"{cidr} leads into {claim.owner} of this machine ({claim.range}), and a gateway is no "
            "way between networks: nothing is forwarded there",
            f"on the controller: nmk gateway remove -n {me.remote_name} {name} egress {cidr}",
            me.network,
        )
        for cidr, claim in (inside_others(me) if wish.roles else ())
    ]


def _same_lan_unsaid(me: Membership) -> list[Finding]:
    """Whether this gateway serves the same LAN as another one for its range: asked of one of them.

    nmk 0.2.0 took it for granted.
    """
    view = me.known.view if me.known else None
    if view is None or not view.gateway.ranges:
        return []
    gateways = {peer.name: peer.gateway for peer in view.peers.values() if peer.gateway.ranges}
    pairs = unsaid({**gateways, view.name: view.gateway})
    return [
        Finding(
            "gateway",
            "warn",
            f"{first.name} and {second.name} both route {second.range}: is that the same LAN?",
            "on the controller, "
            + "; ".join(w.strip() for w in ways_to_say(me.remote_name, first.name, second)),
            me.network,
        )
        for first, second in pairs
        if second.name == view.name
    ]


def _led_nowhere(me: Membership, wish: Desired, run: Runner) -> list[Finding]:
    """What came by the tunnel for somewhere that no role leads to.

    So a config has AllowedIPs to there: that of a hub's client, which nobody here knows, or one of
    a time when there was such a role.
    """
    view = me.known.view if me.known else None
    if view is None or not wish.roles:
        return []
    count = filter_.counted(run, table_name(me.network), FORWARD)
    if not count:
        return []
    reason = (
        f"{count} packets came by the tunnel for where no role of {view.name} leads, and were "
        "dropped: some client's AllowedIPs lead into nothing"
    )
    add = f"nmk gateway add -n {me.remote_name} {view.name}"
    mend = f"to see where they go: tcpdump -n -i {me.interface}; on the controller: {add} exit"
    return [Finding("gateway", "warn", reason, f"{mend}, or egress CIDR", me.network)]


def _routes_in_the_way(me: Membership, routing: Routing, run: Runner) -> list[Finding]:
    """The ranges that a route of the main table takes from the gateway that they should go by."""
    wanted = [route for route in routing.routes if route.gateway]
    there = places(run, leave_out=me.interface) if wanted else ()
    removes = {Claim(place.cidr, place.interface): place.remove for place in there}
    holders = Holders(removes)
    taken = [(route, holders.find(ip_network(route.range))) for route in wanted]
    return [
        Finding(
            "gateway",
            "warn",
            f"{route.range} does not go by {route.gateway}: "
            f"this machine has a route to {found.range} by {found.owner}",
            f"{removes[found]}; or leave it so",
            me.network,
        )
        for route, found in taken
        if found
    ]
