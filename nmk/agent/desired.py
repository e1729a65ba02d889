"""What a membership asks of the machine, by the view, its owner's wishes and what it is."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from ipaddress import ip_interface

from nmk.agent import liveness, state
from nmk.agent.claims import collect_claims, own_lans
from nmk.agent.membership import Membership
from nmk.agent.others import interfaces_of, is_any_noted_shut, others_of, untold_of
from nmk.agent.settings import command, route_wishes
from nmk.agent.surroundings import unwalled
from nmk.core import nft_text
from nmk.core.claims import find_left_out
from nmk.core.gateways import NO_GATEWAY
from nmk.core.kill_chains import is_shut
from nmk.core.peers import View
from nmk.core.problems import Problem, problem_of
from nmk.core.route_table import only_ipv4
from nmk.core.routes import RouteWishes, Routing, compile_routing, exit_gateways, watched
from nmk.core.ruleset import table_name
from nmk.core.surroundings import (
    IPV6_FORWARDING,
    NOTHING,
    Surroundings,
    compile_kill_switch,
    compile_surroundings,
)
from nmk.core.tunnel import Own, Tunnel, compile_tunnel
from nmk.errors import BadInput, BadView, ExitUnusable, FamilyOff
from nmk.system import sysctl
from nmk.system.facts import is_inner
from nmk.system.filter import beside, no_nft
from nmk.system.runner import Runner
from nmk.tools import has_tool

Local = Mapping[str, int]  # the machine's own settings, by their names in core.settings


@dataclass(frozen=True, slots=True)
class Desired:
    """The interface, what it needs around it, and how that came about.

    `roles`: those of a gateway that the machine has, and its owner agrees to; `problems`: what
    the machine cannot have.
    """

    tunnel: Tunnel
    surroundings: Surroundings
    routing: Routing
    roles: tuple[str, ...] = ()
    problems: tuple[Problem, ...] = ()


def desired(me: Membership, local: Local, lan: tuple[str, ...]) -> Desired:
    """What should be. Raises BadView before the controller has told anything."""
    if me.known is None:
        raise BadView(f"the controller has not told this machine of {me.network} yet", "nmk join -")
    others = others_of(me.network)
    view, wishes, claims = me.known.view, route_wishes(me), collect_claims(me, others)
    if not wishes.roles:
        view = replace(view, gateway=NO_GATEWAY)
    view, problems = _without_ipv6(view, me.interface)
    out = {left.address for left in find_left_out(view, claims)}
    here = replace(view, addresses=tuple(a for a in view.addresses if a not in out))
    routing = compile_routing(view, wishes, claims, liveness.dead(me.network), out)
    problems += _without_exit(me, view, wishes, routing)
    own = Own(me.interface, me.private_key, listen_port(me, local), lan, local, me.preshared)
    names = _filter_names(me, others)
    any_exit = routing.exit is not None or _may_any_exit(me, names.meshes)
    if sysctl.forwards(me.interface):
        names = replace(names, forwards=True)
    names = replace(
        names,
        loopback=sysctl.opens_loopback(),
        kept_in=bool(routing.table) and _is_kept_in(me),
        lowest_port=sysctl.lowest_port(),
    )
    around = compile_surroundings(names, me.order, here, routing, wishes, any_exit=any_exit)
    if not (has_tool("nft") or view.gateway.roles or wishes.guarded or around.is_wall):
        around = replace(around, ruleset=None)  # routes alone work without, but for strict filters
        problems += tuple(map(problem_of, unwalled(me, no_nft())))
    if sysctl.read(IPV6_FORWARDING) is None:  # a kernel without IPv6
        around = replace(around, table=only_ipv4(around.table))
    tunnel = compile_tunnel(view, own, routing.ranges, out, watched(view, wishes))
    return Desired(tunnel, around, routing, view.gateway.roles, problems)


def _without_ipv6(view: View, interface: str) -> tuple[View, tuple[Problem, ...]]:
    """The view as far as the machine can follow it: without addresses of a family that is off."""
    sixes = [a for a in view.addresses if ":" in a]
    reason = sysctl.why_no_ipv6(interface) if sixes else None
    if reason is None:
        return view, ()
    error = FamilyOff(
        f"this machine's IPv6 is off ({reason}): it has not got {', '.join(sixes)}",
        sysctl.ipv6_hint(reason),
    )
    fours = tuple(a for a in view.addresses if a not in sixes)
    return replace(view, addresses=fours), (problem_of(error),)


def _without_exit(
    me: Membership, view: View, wishes: RouteWishes, routing: Routing
) -> tuple[Problem, ...]:
    """That the exit node asked for is none, and what becomes of what it should carry."""
    if routing.problem is None:
        return ()
    what, ends = "everything leaves openly", command(me, "exit-node", "")
    if wishes.kill_switch:
        what = "the kill switch lets nothing out but to the LAN"
        ends = command(me, "kill-switch", "off")
    others = [name for name in exit_gateways(view) if name != wishes.exit_node]
    hint = f"{ends}; exit gateways: {', '.join(others)}" if others else ends
    text = f"exit-node={wishes.exit_node}: {routing.problem}, and so {what}"
    return (problem_of(ExitUnusable(text, hint)),)


def families(me: Membership) -> set[int]:
    """Those that this machine has addresses of in the network, 4 and 6."""
    if me.known is None:
        return set()
    view, _ = _without_ipv6(me.known.view, me.interface)
    return {ip_interface(address).version for address in view.addresses}


def desired_when_down(me: Membership) -> Surroundings:
    """What stays while the owner wants the interface down, or the controller has deleted the node.

    That is the kill switch, if it is on: only its owner opens it.
    """
    if me.known is None:
        return NOTHING
    return compile_kill_switch(
        _filter_names(me, others_of(me.network)), me.known.view, route_wishes(me)
    )


def listen_port(me: Membership, local: Local) -> int:
    """The UDP port of this machine's WireGuard: the one asked for, else the one picked at join."""
    return me.wishes.listen_port or local.get("listen-port", me.listen_port)


def _filter_names(me: Membership, others: list[Membership]) -> nft_text.Own:
    """`others`: those whose state can be read; of the rest nobody knows any roles.

    Nor of those whose owner's wishes cannot be read: they are no way for this network either.
    """
    meshes = interfaces_of(me)
    lans = [claim for claim in own_lans(me, others) if claim.owner not in meshes]
    opened = set[str]()
    for other in others:
        with suppress(BadInput):
            if has_roles(other):
                opened.add(other.interface)
    return nft_text.Own(
        table_name(me.network),
        me.interface,
        tuple((claim.owner, claim.range) for claim in lans),
        tuple(sorted(meshes)),
        tuple(sorted(meshes - opened)),
        rivals=tuple(
            (other.interface, cidr)
            for other in others
            if other.known and other.phase == "joined"
            for cidr in other.known.view.cidrs
        ),
        inner=tuple((claim.owner, claim.range) for claim in lans if is_inner(claim.owner)),
    )


def _may_any_exit(me: Membership, meshes: Collection[str]) -> bool:
    """Whether another network wants an exit node; also where nobody can tell.

    The stricter rules are safe. `meshes`: the interfaces of all.
    """
    here = state.others(me.network)
    alive = (other for other in here if other.phase == "joined" and not other.down)
    known = {other.interface for other in here}
    return any(map(_may_exit, alive)) or bool({*meshes} - known or untold_of(me.network))


def _may_exit(other: Membership) -> bool:
    try:
        return route_wishes(other).exit_node is not None
    except BadInput:
        return True


def keeps_in(me: Membership) -> bool:
    """Whether it wants a kill switch that lets nothing out, be its interface up or not.

    Also where nobody can tell.
    """
    try:
        wishes = route_wishes(me)
    except BadInput:
        return True
    return me.phase != "joining" and wishes.kill_switch and wishes.exit_node is not None


def _is_kept_in(me: Membership) -> bool:
    """Whether the kill switch of another network is wanted, or stands, whoever has its state."""
    if any(map(keeps_in, state.others(me.network))) or is_any_noted_shut(me.network):
        return True
    return any(map(is_shut, beside(Runner(), table_name(me.network)).values()))


def has_roles(me: Membership) -> bool:
    """Whether the network has this machine forward, and its owner agrees. Raises BadInput."""
    return bool(
        me.phase == "joined" and me.known and me.known.view.gateway.roles and route_wishes(me).roles
    )
