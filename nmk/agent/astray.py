"""Whether packets for the network go into its tunnel, as the kernel says when it is asked."""

from __future__ import annotations

from ipaddress import ip_address, ip_network

from nmk.agent.claims import left_out
from nmk.agent.desired import families
from nmk.agent.membership import Membership
from nmk.agent.others import interfaces_of, others_of
from nmk.agent.settings import command, route_wishes
from nmk.core.overlap import samples_in
from nmk.core.parse import EVERYTHING
from nmk.core.problems import Problem, printable
from nmk.core.routes import Routing
from nmk.core.tunnel import MARK
from nmk.system import routes
from nmk.system.culprit import defaults_into, picky_past, who_leads
from nmk.system.routes import leaves_by
from nmk.system.runner import Runner

_MOST_PARTS = 4  # of ranges, as below
_MOST_RANGES = 8  # that the kernel is asked about; one process each

# One in each half of the internet, as some VPNs lead it by halves; no packet is sent there.
OUTSIDE = {4: ("1.0.0.1", "198.18.0.1"), 6: ("2600::1", "3fff::1")}


def find_astray(me: Membership, routing: Routing, run: Runner) -> list[Problem]:
    """What another program leads elsewhere, by a rule or route of its own.

    Asked are one address of a node a family, one in each of the ranges that are followed, and one
    in each part of them that some route or rule is for. What is left out here, and ranges that a
    LAN of this machine lies in, are none. Raises ToolMissing, CommandFailed.
    """
    if me.known is None:
        return []
    out = {one.address for one in left_out(me)}
    view = me.known.view
    nodes = [a for p in view.peers.values() for a in p.addresses if a not in out]
    samples = {ip_address(a).version: a for a in reversed(nodes)}
    on = families(me)
    asked = {address: address for version, address in sorted(samples.items()) if version in on}
    led = [r.range for r in routing.routes if r.gateway and r.range not in EVERYTHING]
    nearer = [ip_network(p.cidr) for p in routes.places(run, me.interface)] if led else []
    for there in [ip_network(cidr) for cidr in led[:_MOST_RANGES]]:
        is_near = any(near.version == there.version and near.overlaps(there) for near in nearer)
        if there.version in on and not is_near:
            asked[str(there[1 if there.num_addresses > 1 else 0])] = str(there)
    parts = [p for p in other_parts(me, run) if ip_network(p).version in on]
    asked |= dict([*samples_in(parts, view.cidrs, nodes).items()][:_MOST_PARTS])
    theirs = [p for p in parts if ip_network(p) not in nearer]
    asked |= dict([*samples_in(theirs, led).items()][:_MOST_PARTS])
    found = _no_uplink(me, routing, run)
    for address, what in asked.items():
        by = leaves_by(run, address)
        if by != me.interface:
            reason = f"packets to {what} leave by {by or 'no way'}, not by {me.interface}"
            hint = f"end what leads there, another VPN; to see it: ip route get {address}; ip rule"
            if other := network_at(by, me):
                reason = f"{reason}: that is {other.network}, another network of this machine"
                hint = f"{command(other, 'accept-routes', 'off')}; or leave it so"
            elif culprit := who_leads(run, address, me.order, me.interface):
                reason = f"{reason}: {culprit.what}"
                hint = f"{culprit.remove}; or end what lays it, another VPN"
            found.append(Problem("led-elsewhere", printable(reason), printable(hint)))
    return found


def find_picky(me: Membership, routing: Routing, run: Runner) -> list[Problem]:
    """Rules of others that lead packets of some source or mark past the exit node.

    A kill switch drops these. Raises ToolMissing.
    """
    if not routing.exit or route_wishes(me).kill_switch:
        return []
    ours = {me.interface, *interfaces_of(me)}
    return [
        Problem(
            "led-elsewhere",
            printable(f"some packets leave by {by}, not by {routing.exit}: {culprit.what}"),
            printable(f"{culprit.remove}; or end what lays it; or leave it so"),
        )
        for culprit, by in picky_past(run, me.order, ours)[:_MOST_PARTS]
    ]


def _no_uplink(me: Membership, routing: Routing, run: Runner) -> list[Problem]:
    """A default route that would lead the tunnel's own packets into the tunnel, or none at all.

    That none is there is said of who sends everything to an exit node.
    """
    found = [
        Problem(
            "led-elsewhere",
            printable(f"the main table's default route leads into {me.interface}: {one.what}"),
            printable(f"{one.remove}; then one by the router: ip route add default via ROUTER"),
        )
        for one in defaults_into(run, me.interface)
    ]
    outside = [address for pair in OUTSIDE.values() for address in pair]
    if not found and routing.exit and not any(leaves_by(run, a, MARK) for a in outside):
        reason = "the main table has no default route: the tunnel itself gets to the LANs alone"
        hint = "ip route add default via ROUTER dev INTERFACE; or start the DHCP client again"
        found.append(Problem("no-uplink", reason, hint))
    return found


def network_at(interface: str | None, me: Membership) -> Membership | None:
    """Which of the machine's other networks has that interface."""
    return next((o for o in others_of(me.network) if o.interface == interface), None)


def other_parts(me: Membership, run: Runner) -> list[str]:
    """The ranges that routes and rules are for which are not nmk's. Raises ToolMissing."""
    ours = {me.interface, *interfaces_of(me)}
    return routes.led_parts(run, ours)
