"""Whether packets for the network go into its tunnel, as the kernel says when it is asked."""

from __future__ import annotations

from ipaddress import ip_address, ip_network

from nmk.agent.claims import left_out
from nmk.agent.desired import families
from nmk.agent.membership import Membership
from nmk.core.parse import EVERYTHING
from nmk.core.problems import Problem, printable
from nmk.core.routes import Routing
from nmk.system import routes
from nmk.system.runner import Runner

_MOST_RANGES = 8  # that the kernel is asked about; one process each


def find_astray(me: Membership, routing: Routing, run: Runner) -> list[Problem]:
    """What another program leads elsewhere, by a rule or route of its own.

    Asked are one address of a node a family, and one in each of the ranges that are followed.
    What is left out here, and ranges that a LAN of this machine lies in, are none. Raises
    ToolMissing, CommandFailed.
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
    found = []
    for address, what in asked.items():
        by = routes.leaves_by(run, address)
        if by != me.interface:
            reason = f"packets to {what} leave by {by or 'no way'}, not by {me.interface}"
            hint = f"ip route get {address}; ip rule: end what leads there, another VPN"
            found.append(Problem("led-elsewhere", printable(reason), printable(hint)))
    return found
