"""How everything leaves this machine: by its exit node, past it, or not at all."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from ipaddress import ip_network
from typing import Any, Literal

from nmk.agent import kill_switch, surroundings
from nmk.agent.astray import OUTSIDE, network_at, other_parts
from nmk.agent.claims import own_lans
from nmk.agent.desired import families
from nmk.agent.membership import Membership
from nmk.agent.others import interfaces_of, others_of
from nmk.agent.salvage import guarded, is_untold
from nmk.agent.settings import appending, command, route_wishes, unread, wished
from nmk.agent.unmarked import LEFT_OUT
from nmk.core.claims import holds
from nmk.core.commands import command as shell
from nmk.core.links import CLOUDS, LINKS, is_lan
from nmk.core.overlap import samples_in
from nmk.core.parse import EVERYTHING, overlap
from nmk.core.problems import Problem, printable
from nmk.core.routes import RouteWishes, Routing, followed
from nmk.core.ruleset import table_name
from nmk.core.tunnel import MARK
from nmk.errors import BadInput, CommandFailed, ToolMissing
from nmk.system import filter as packet_filter
from nmk.system import wireguard
from nmk.system.culprit import foreign_routes, who_leads
from nmk.system.routes import leaves_by, probe_table
from nmk.system.runner import Runner
from nmk.tools import has_tool, install_hint

_MOST_PARTS = 8  # that the kernel is asked about; one process each
NOT_UP = "the interface is not up"
NOTHING_LEADS = "nothing leads to an exit node"
NOT_LAID = "the kill switch is not laid: {} leaves openly"
NO_NFT = "nft is not installed: the kill switch that was laid may stand"
UNTOLD = "the state does not tell whether a kill switch is wanted: without one all leaves openly"
WAITS = "the kill switch shuts nothing before there is an exit node"
NO_LAN = "a LAN is private, and not wider than /12, for IPv6 /48"
OF_THE_MESH = "it has addresses of the mesh"
BESIDE = "{}, another network of this machine"
LED = "the network leads to {} in it"  # ranges
_MOST_NAMED = 3  # of these


@dataclass(frozen=True, slots=True)
class CutOff:
    """What lets nothing out but to the LAN, and the command that ends that."""

    by: Literal["exit node", "kill switch"]
    next: str


@dataclass(frozen=True, slots=True)
class KillSwitch:
    """One that is wanted: the `problem` where it is not in the kernel, and what lays it, `next`.

    `laid`: None where nobody can tell, and then `next` is what lets nmk look.
    """

    laid: bool | None = True
    problem: str | None = None
    next: str | None = None


@dataclass(frozen=True, slots=True)
class Leaves:
    """By which interfaces packets to outside leave, `by`, and those of WireGuard itself."""

    family: int
    by: tuple[str, ...]
    tunnel: str | None


@dataclass(frozen=True, slots=True)
class Past:
    """`what` leaves past the exit node, the address that was asked about, and the interface."""

    what: str
    address: str
    interface: str


@dataclass(frozen=True, slots=True)
class Lan:
    """A subnet of the machine; `shut`: why what is in it is not reached beside the exit node."""

    interface: str
    range: str
    shut: str | None


@dataclass(frozen=True, slots=True)
class WayOut:
    """`node`: the exit node that everything is sent to; `problem`: why none, or no use of it.

    `leaves`: what the kernel does, whatever was asked for; `past`: the interfaces beside the tunnel
    that something leaves by, `hint`: what ends that. `lans`: the machine's subnets, while it wants
    an exit node. `kill_switch`: None where none is wanted.
    """

    node: str | None = None
    problem: str | None = None
    cut_off: CutOff | None = None
    leaves: tuple[Leaves, ...] = ()
    past: tuple[str, ...] = ()
    hint: str | None = None
    lans: tuple[Lan, ...] = ()
    kill_switch: KillSwitch | None = None

    def as_json(self) -> dict[str, Any]:
        """Its part of `nmk status -o json`."""
        return {
            "exit": {
                "node": self.node,
                "problem": self.problem,
                "leaves": [asdict(one) for one in self.leaves],
                "past": list(self.past),
                "hint": self.hint,
                "lans": [asdict(one) for one in self.lans],
            },
            "cut_off": asdict(self.cut_off) if self.cut_off else None,
            "kill_switch": asdict(self.kill_switch) if self.kill_switch else None,
        }


def find_way_out(me: Membership, routing: Routing, silent: Collection[str]) -> WayOut:
    """What becomes of the owner's wish for an exit node.

    `routing`: as it is now; `silent`: the ids of peers that do not answer.
    """
    node, problem = routing.exit, routing.problem
    peers = me.known.view.peers if me.known else {}
    wishes = route_wishes(me)
    lans = _lans(me, wishes) if wishes.exit_node else ()
    if wishes.kill_switch and not wishes.exit_node:
        return WayOut(node, WAITS)
    if any(peers[key].name == node for key in silent if key in peers):
        cut_off = CutOff("exit node", command(me, "exit-node", ""))
        return WayOut(node, f"{node} does not answer", cut_off, lans=lans)
    if problem and wishes.kill_switch:
        ends = command(me, "kill-switch", "off")
        taker = next((one for one in lans if one.shut == OF_THE_MESH), None)
        if problem == NOT_UP and me.phase == "joined":
            if wireguard.is_makable():
                ends = f"nmk up -n {me.network}"  # and the exit node is there again
        elif taker and me.phase == "joined":  # which would get what is meant for the mesh
            ends = f"leave the LAN at {taker.interface}: it has taken {taker.range}, the mesh's"
        return WayOut(node, problem, CutOff("kill switch", ends), lans=lans)
    return WayOut(node, problem, lans=lans)


def _lans(me: Membership, wishes: RouteWishes) -> tuple[Lan, ...]:
    """The machine's subnets, and which of them stay shut."""
    view = me.known.view if me.known and wishes.kill_switch else None
    mesh = [ip_network(cidr) for cidr in view.cidrs] if view else []
    led = [ip_network(cidr) for cidr in followed(view, wishes)] if view else []
    routed = view.gateway.lans if view else ()
    found = []
    for claim in own_lans(me, others_of(me.network)):
        lan = ip_network(claim.range)
        taken = any(overlap(lan, cidr) for cidr in mesh)
        shut = OF_THE_MESH if taken else None if is_lan(claim.range) else NO_LAN
        if not (shut or any(holds(cidr, claim.range) for cidr in routed)):
            parts = [str(cidr) for cidr in led if overlap(lan, cidr)]
            shut = LED.format(", ".join(parts[:_MOST_NAMED])) if parts else None
        found.append(Lan(claim.owner, claim.range, shut))
    return tuple(found)


def observe(me: Membership, out: WayOut, run: Runner) -> WayOut:
    """The same with what is there: others' routes may go before ours, a filter be gone."""
    out = with_kill_switch(me, out, run)
    if out.node is None or not has_tool("ip"):
        return out
    leaves, past = [], []
    for family, outside in OUTSIDE.items():
        by = {address: leaves_by(run, address) for address in outside}
        names = tuple(dict.fromkeys(name for name in by.values() if name))
        leaves.append(Leaves(family, names, leaves_by(run, outside[0], MARK)))
        past += [Past(f"IPv{family}", a, i) for a, i in by.items() if i and i != me.interface]
    past = past or _parts_past(me, run)
    out = replace(out, leaves=tuple(leaves))
    if past:
        return _name_past(me, out, past, run)
    ours = families(me)
    lost = [x.family for x in leaves if x.family in ours and not x.by]
    return _name_lost(me, out, lost, run) if lost and not out.problem else out


def with_kill_switch(me: Membership, out: WayOut, run: Runner) -> WayOut:
    """The same with what becomes of a kill switch that is wanted. Raises BadInput."""
    anew = "start the machine anew"
    if not (kill_switch.is_wanted(me) and route_wishes(me).exit_node):
        if not surroundings.may_be_shut(me):
            return out
        opens = f"{anew}; or {install_hint('nft')}, then: nmk checkin -n {me.network}"
        return replace(out, kill_switch=KillSwitch(None, NO_NFT, opens))
    if surroundings.is_shut(me, run):
        return replace(out, kill_switch=KillSwitch())
    what = "what does not go by the exit node" if out.node else "everything"
    found = KillSwitch(False, NOT_LAID.format(what), f"nmk checkin -n {me.network}")
    if unseen := packet_filter.why_unseen(run, table_name(me.network)):
        found = KillSwitch(None, unseen.message, unseen.hint)
    cut_off, is_kills = out.cut_off, out.cut_off and out.cut_off.by == "kill switch"
    if surroundings.may_be_shut(me):  # as there is nothing that could have removed it
        opens = f"{command(me, 'kill-switch', 'off')}; then {anew}"
        found = KillSwitch(None, NO_NFT, f"{install_hint('nft')}; to open it: {opens}")
        cut_off = CutOff("kill switch", opens) if is_kills else cut_off
    elif is_kills:
        cut_off = None
    return replace(out, kill_switch=found, cut_off=cut_off)


def observe_damaged(network: str, run: Runner) -> WayOut:
    """The same of a network whose state cannot be read, as far as that can be told."""
    me, out = guarded(network, run), WayOut()
    with suppress(BadInput):
        out = with_kill_switch(me, out, run)
        if is_untold(me):
            anew = next((p.hint for p in unread(me)), "") or f"to shut it: {_shuts(me)}"
            shuts = f"{anew}; nmk checkin -n {network}"
            is_laid = surroundings.is_shut(me, run)
            found = KillSwitch() if is_laid else KillSwitch(None, UNTOLD, shuts)
            out = replace(out, kill_switch=found)
        if out.kill_switch and out.kill_switch.laid and not leads_out(me, run):
            problem = NOTHING_LEADS if wireguard.exists(me.interface) else NOT_UP
            cut_off = CutOff("kill switch", command(me, "kill-switch", "off"))
            out = replace(out, problem=problem, cut_off=cut_off)
    return out


def leads_out(me: Membership, run: Runner) -> bool:
    """Whether anything that is for the internet goes into the network's interface.

    Not where nobody can tell, for want of `ip`.
    """
    asked = (leaves_by(run, outside[0]) for outside in OUTSIDE.values())
    return wireguard.exists(me.interface) and has_tool("ip") and me.interface in asked


def _shuts(me: Membership) -> str:
    """What writes down that a kill switch is wanted, as far as the owner's files do not say so."""
    said = wished(me.network, me)
    lines = {"exit-node": 'exit-node = "NODE"', "kill-switch": 'kill-switch = "on"'}
    return appending(me.network, *(line for name, line in lines.items() if name not in said))


def _name_past(me: Membership, out: WayOut, past: Sequence[Past], run: Runner) -> WayOut:
    """The same with what goes past the exit node, whose doing it is, and what ends that."""
    lines: dict[str, dict[str, None]] = {}
    removes: dict[str, None] = {}
    mine: dict[str, None] = {}
    for one in past:
        by = one.interface
        if other := network_at(by, me):
            by = f"{by} ({BESIDE.format(other.network)})"
            mine[command(other, "exit-node", "")] = None
        elif culprit := who_leads(run, one.address, me.order, me.interface):
            by = f"{by} ({printable(culprit.what)})"
            removes[printable(culprit.remove)] = None
        lines.setdefault(one.what, {})[by] = None
    interfaces = tuple(dict.fromkeys(one.interface for one in past))
    show = f"ip rule; {shell('ip', 'route', 'show', 'table', 'all', 'dev', interfaces[0])}"
    ends = (
        f"{'; '.join(removes)}; or end what lays it" if removes else f"{show}: end what leads there"
    )
    hint = f"{ends}, another VPN; or {command(me, 'exit-node', '')}"
    if mine:
        ways = [*removes, *mine, command(me, "exit-node", "")]
        hint = f"one network has the exit node: {' or '.join(ways)}"
    told = ", ".join(f"{what} leaves by {', '.join(by)}" for what, by in lines.items())
    is_all = all(one.what.startswith("IPv") for one in past) and not (removes or mine)
    if is_all and (why := _why_left_out(me, out, run)):
        told, hint = f"{told}, as {why.message}", why.hint
    cut_off = None
    if out.kill_switch and out.kill_switch.laid and not mine:  # it lets into other networks
        is_cut = not any(me.interface in one.by for one in out.leaves)
        cut_off = CutOff("kill switch", hint) if is_cut else None
        told += "" if is_cut else ", where the kill switch drops it"
    return replace(out, problem=told, cut_off=cut_off, past=interfaces, hint=hint)


def _name_lost(me: Membership, out: WayOut, lost: Sequence[int], run: Runner) -> WayOut:
    """The same with what lets nothing get to the exit node, by families, and what ends that."""
    told = ", ".join(f"no way for IPv{family}" for family in lost)
    asked = (who_leads(run, OUTSIDE[f][0], me.order, me.interface) for f in lost)
    if found := [culprit for culprit in asked if culprit]:
        told += f" ({', '.join(dict.fromkeys(printable(c.what) for c in found))})"
        ends = "; ".join(dict.fromkeys(printable(c.remove) for c in found))
        hint = f"{ends}; or end what lays it, another VPN; or {command(me, 'exit-node', '')}"
    elif why := _why_left_out(me, out, run):
        told, hint = f"{told}, as {why.message}", why.hint
    else:
        hint = "ip rule; ip route show table all: find what leads nowhere there"
    return replace(out, problem=told, hint=hint)


def _why_left_out(me: Membership, out: WayOut, run: Runner) -> Problem | None:
    """Why there is no way by the exit node, as the last run said itself; None where there is."""
    if not probe_table(run, me.order, me.interface).led.isdisjoint(EVERYTHING):
        return None
    told = {CommandFailed.code, ToolMissing.code}
    found = [p for p in me.problems if p.code in told]
    found = [p for p in found if p.message.startswith(LEFT_OUT) or "nft" in p.message]
    anew = f"to lay that, or see why not: nmk checkin -n {me.network}"
    return found[0] if found else Problem("", f"nothing of nmk's leads to {out.node}", anew)


def _parts_past(me: Membership, run: Runner) -> list[Past]:
    """What is led past the exit node of parts of the internet that some route or rule is for.

    Those that LANs have go beside it, but for what is in our own routing table, and those of other
    networks of the machine.
    """
    on = families(me)
    beside = {r.cidr for f in on for r in foreign_routes(run, f, me.order, me.interface)}
    parts = [p for p in other_parts(me, run) if ip_network(p).version in on]
    parts = [p for p in parts if not is_lan(p) or p in beside]
    parts = [p for p in parts if not any(holds(cidr, p) for cidr in (*LINKS, *CLOUDS))]
    ours = {me.interface, *interfaces_of(me)}
    asked = [*samples_in(parts, EVERYTHING).items()][:_MOST_PARTS]
    found = [(part, address, leaves_by(run, address)) for address, part in asked]
    return [Past(part, address, by) for part, address, by in found if by and by not in ours]
