"""What of a network this machine leaves out, because the addresses are somebody else's here."""

from __future__ import annotations

from nmk.agent.membership import Membership
from nmk.agent.others import interfaces_of, others_of
from nmk.core.claims import SERVICES, Claim, LeftOut, find_inside, find_left_out
from nmk.system.facts import own_subnets


def left_out(me: Membership) -> tuple[LeftOut, ...]:
    """Addresses of the network that the mesh does not lead to from here, as things are now."""
    if me.known is None:
        return ()
    return find_left_out(me.known.view, collect_claims(me, others_of(me.network)))


def collect_claims(me: Membership, others: list[Membership]) -> list[Claim]:
    """What goes before this network: the machine's own subnets, and networks joined earlier.

    And its provider's services: nobody in the network has their addresses, or leads there.
    """
    return [*own_lans(me, others), *SERVICES] + [
        Claim(cidr, f"network {other.network}")
        for other in others
        if other.known and other.phase == "joined"
        if (other.order, other.network) < (me.order, me.network)
        for cidr in other.known.view.cidrs
    ]


def inside_others(me: Membership) -> list[tuple[str, Claim]]:
    """The ranges that this gateway routes and another network of the machine has or leads to.

    A gateway is no way between networks, so it forwards nothing there.
    """
    if me.known is None:
        return []
    others = others_of(me.network)
    claims = []
    for other in others:
        if other.known and other.phase == "joined" and not other.down:
            view = other.known.view
            led = [cidr for peer in view.peers.values() for cidr in peer.gateway.ranges]
            led += [cidr for client in view.clients.values() for cidr in client.ranges]
            claims += [Claim(c, f"network {other.network}") for c in (*view.cidrs, *led)]
    beside, meshes = own_lans(me, others), interfaces_of(me)
    claims += [claim for claim in beside if claim.owner in meshes]  # of one that cannot be read
    lans = [claim.range for claim in beside if claim.owner not in meshes]
    return find_inside(me.known.view.gateway, claims, lans)


def own_lans(me: Membership, others: list[Membership]) -> list[Claim]:
    """The subnets of the machine's own addresses outside all meshes."""
    ours = {me.interface, *(other.interface for other in others)}
    return [Claim(cidr, interface) for interface, cidr in own_subnets(leave_out=ours)]
