"""`nmk ping`: whether a node answers through the mesh, by which path, and if not, why not."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from ipaddress import ip_address, ip_network

from nmk.agent import state
from nmk.agent.claims import left_out
from nmk.agent.desired import desired
from nmk.agent.membership import Membership
from nmk.agent.peer_status import (
    NAT,
    UNHEARD,
    Row,
    describe_peer,
    is_nat_between,
    is_newcomer,
    through_nat,
)
from nmk.agent.salvage import choose
from nmk.agent.settings import local_settings
from nmk.agent.status import live, trouble
from nmk.agent.tick import collect_facts
from nmk.core.amounts import show_ago
from nmk.core.health import is_session
from nmk.core.parse import look_in, parse_address, quote
from nmk.core.peers import Peer, View
from nmk.core.tunnel import MARK
from nmk.errors import Ambiguous, BadInput, NoAnswer, NotFound
from nmk.system import echo, routes
from nmk.system.runner import Runner

_MORE = 4  # pings, to see the sign of life that WireGuard gives after 10 s

Clock = Callable[[], float]
Tell = Callable[[int, echo.Echo], None]
Trouble = tuple[str, str]  # what is wrong, and what to do next


@dataclass(frozen=True, slots=True)
class Target:
    """A node or ext client to ping, as one membership knows it, at one of its addresses.

    `peer`: of an ext client the one that its packets go to, with its name and addresses;
    `gateway`: the node that lets it in, None of a node.
    """

    me: Membership
    peer: Peer
    address: str
    gateway: str | None = None

    @property
    def is_ours(self) -> bool:
        """Whether it is an ext client that calls this machine itself."""
        return self.me.known is not None and self.gateway == self.me.known.view.name


def find_target(node: str, network: str | None) -> Target:
    """Whoever has that name or address. Raises NotFound, Ambiguous, NotJoined, BadInput."""
    every = [] if network else state.networks()
    chosen = every or [choose(network, Runner())]
    address = None
    with suppress(BadInput):
        address = str(parse_address(node))
    found: list[Target] = []
    for me in map(state.load, chosen):
        view = me.known.view if me.known else None
        if view and (node == view.name or address in view.addresses):
            raise BadInput(f"{quote(node)} is this machine", "nmk status")
        known = [*((p, None) for p in view.peers.values()), *_clients(view)] if view else []
        found += [
            Target(me, peer, address or _best_address(me, peer), gateway)
            for peer, gateway in known
            if node == peer.name or address in peer.addresses
        ]
    if not found and address:
        _tell_gateway(address, chosen)
    if not found:
        where = f"no node of {', '.join(chosen)} that this machine knows of"
        names = [p.name for p in _all_known(chosen)]
        look = look_in("nmk status", node, names)
        raise NotFound(f"{quote(node)} is {where}", f"{look}; where it has just come: nmk checkin")
    if len(found) > 1:
        networks = ", ".join(target.me.network for target in found)
        raise Ambiguous(f"there is a node {quote(node)} in {networks}")
    return found[0]


def _all_known(networks: list[str]) -> Iterator[Peer]:
    for me in map(state.load, networks):
        view = me.known.view if me.known else None
        yield from view.peers.values() if view else ()
        yield from (peer for peer, _ in _clients(view)) if view else ()


def _tell_gateway(address: str, networks: list[str]) -> None:
    """Raises NotFound that names the gateway where an address lies in the range of one."""
    for me in map(state.load, networks):
        if me.known is None:
            continue
        local = local_settings(me.network, me)
        routes_here = desired(me, local, collect_facts(me, local).lan).routing.routes
        inside = [r for r in routes_here if ip_address(address) in ip_network(r.range)]
        if not inside:
            continue
        route = max(inside, key=lambda r: ip_network(r.range).prefixlen)
        what = f"{quote(address)} is no node of {me.network}; it is in {route.range}"
        if route.gateway is None:
            raise NotFound(f"{what}, left out here: {route.reason}", f"ping {address}")
        hint = f"nmk ping -n {me.network} {route.client or route.gateway}; ping {address}"
        behind = f" to {route.client}" if route.client else ""
        raise NotFound(f"{what}, which {route.gateway} routes{behind}", hint)


def _clients(view: View) -> list[tuple[Peer, str]]:
    """The ext clients as peers: those that call here themselves, the others as their gateways.

    With the names of these.
    """
    found = []
    for client in view.clients.values():
        via = view.peers.get(client.via)
        if via is not None:
            peer = replace(via, name=client.name, addresses=client.addresses)
            found.append((peer, via.name))
        elif client.via == view.id:
            none: tuple[str, ...] = ()
            peer = Peer(client.id, client.name, client.key, client.addresses, 0, none, none, None)
            found.append((peer, view.name))
    return found


def _best_address(me: Membership, peer: Peer) -> str:
    """The first that the mesh leads to from here; the first at all where there is none."""
    out = {one.address for one in left_out(me)}
    return next((a for a in peer.addresses if a not in out), peer.addresses[0])


def ping_node(target: Target, run: Runner, count: int, clock: Clock, tell: Tell) -> Row:
    """Send pings one after the other; the path, the times, and what is wrong, if something is.

    `tell` hears of each ping. `clock`: seconds since 1970. Raises ToolMissing.
    """
    before = _look(target, run, clock)
    echoes = []
    for number in range(1, count + 1):
        echoes.append(echo.ping(run, target.me.interface, target.address))
        tell(number, echoes[-1])
    times = [e.milliseconds for e in echoes if e.milliseconds is not None]
    checked: list[str] = []
    trouble = _find_trouble(target, run, checked)
    if trouble is None and not times:
        trouble = _explain(target, run, before, clock, checked)
    problem, cure = trouble or (None, None)
    path = _look(target, run, clock)
    return {
        "network": target.me.network,
        "node": target.peer.name,
        "address": target.address,
        "sent": count,
        "answered": len(times),
        "milliseconds": times,
        "path": {
            "gateway": target.gateway,
            **{key: path[key] for key in ("endpoint", "kind", "why", "handshake")},
        },
        "checked": checked,
        "problem": problem,
        "next": cure,
    }


def _look(target: Target, run: Runner, clock: Clock) -> Row:
    """The peer as `nmk status` describes it."""
    me = target.me
    _, dump = live(me, run)
    there = dump.peers.get(target.peer.key) if dump else None
    lan = own_lan(me)
    assert me.known  # noqa: S101  # the target was found in its view
    return describe_peer(target.peer, there, me.known.view, lan, clock(), {})


def own_lan(me: Membership) -> tuple[str, ...]:
    """This machine's own addresses."""
    return collect_facts(me, local_settings(me.network, me)).lan


def _find_trouble(target: Target, run: Runner, checked: list[str]) -> Trouble | None:
    """What is wrong where this machine's packets to the node do not go into the mesh."""
    me = target.me
    condition, _ = live(me, run)
    checked.append(f"the interface {me.interface} is {condition}")
    if wrong := trouble(me, condition):
        problem, cure = wrong
        return f"{me.interface}: {problem}", cure
    way = routes.way_to(run, target.address)
    checked.append(f"packets to {target.address} leave by {way.interface if way else 'no way'}")
    if way and way.interface == me.interface:
        return None
    by = way.interface if way else "no way"
    return f"packets to it leave by {by}, not by the mesh", f"nmk doctor -n {me.network}"


def _explain(target: Target, run: Runner, before: Row, clock: Clock, checked: list[str]) -> Trouble:
    """Why there is no answer, and what to do next; each thing that was looked at is noted."""
    me, name = target.me, target.gateway or target.peer.name
    now = _look(target, run, clock)
    endpoint = now["endpoint"]
    if target.is_ours and not _has_session(now):
        return _explain_absence(target, now["handshake"], checked)
    if endpoint is None:
        checked.append(f"no address of {name} outside the mesh is known")
        return (
            f"{name} has to call this machine, which cannot call it",
            f"on the controller: nmk node set -n {me.remote_name} {name} endpoint=ADDRESS:PORT",
        )
    host = endpoint.rpartition(":")[0].strip("[]")
    under = routes.way_to(run, host, MARK)
    checked.append(f"packets to {endpoint} leave by {under.interface if under else 'no way'}")
    if under is None:
        return f"this machine has no route to {endpoint}", f"ip route get {host}"
    return _explain_silence(target, run, before, clock, checked)


def _explain_absence(target: Target, handshake: int | None, checked: list[str]) -> Trouble:
    """Why an ext client is silent that this machine lets in, and that is not in touch."""
    checked.append(f"it calls this machine, its gateway: last {show_ago(handshake)}")
    if handshake is None:
        return "it has never called this machine, its gateway", _on_device(target)
    return (
        f"it called this machine, its gateway, {show_ago(handshake)} and not since",
        _on_device(target),
    )


def _on_device(target: Target) -> str:
    """Where to look on, as no nmk runs on an ext client."""
    return (
        "on the device: is its WireGuard app on? "
        f"On the controller: nmk extclient show -n {target.me.remote_name} {target.peer.name}"
    )


def _explain_silence(
    target: Target, run: Runner, before: Row, clock: Clock, checked: list[str]
) -> Trouble:
    """Why a node is silent to which there is a way, or an ext client behind one."""
    name = target.peer.name
    now = _look(target, run, clock)
    for _ in range(_MORE):
        if now["received"] > before["received"] or not _has_session(now):
            break
        echo.ping(run, target.me.interface, target.address)
        now = _look(target, run, clock)
    sent, received = (now[key] - before[key] for key in ("sent", "received"))
    checked.append(f"{sent} bytes went out to {now['endpoint']}, {received} came back")
    if target.is_ours:
        called = f"it called this machine, its gateway, {show_ago(now['handshake'])}"
        return f"{called}, and does not answer", _on_device(target)
    if target.gateway and received > 0:
        gateway = f"the tunnel to its gateway {target.gateway} works"
        return f"{gateway}, and {name} does not answer there", _on_device(target)
    if received > 0:
        return (
            f"the tunnel to {name} works, and {name} does not answer pings",
            f"on {name}: nmk doctor, and look at its firewall for {target.me.interface}",
        )
    of = f"its gateway {target.gateway}, " if target.gateway else ""
    silence = f"nothing comes back from {of}{now['endpoint']}"
    if now["handshake"] is None and is_newcomer(target.me, clock()):
        hint = f"wait for that; at once: nmk checkin, on {target.gateway or name}"
        return f"{silence}; {UNHEARD}", hint
    me, peer = target.me, replace(target.peer, name=target.gateway or name)
    lan = own_lan(me)
    if me.known and is_nat_between(peer, me.known.view, lan):
        return f"{silence}; {NAT}", through_nat(me.known.view, peer)
    return (
        silence,
        f"on {target.gateway or name}: nmk status; nmk doctor. Is it on, and its UDP port open?",
    )


def _has_session(row: Row) -> bool:
    return is_session(row["handshake"])


def failure_of(result: Row) -> NoAnswer | None:
    """The result as an error, where something is wrong."""
    if result["problem"] is None:
        return None
    says = "answers, but" if result["answered"] else "does not answer:"
    return NoAnswer(f"{result['node']} {says} {result['problem']}", result["next"])
