"""What a network looks like from this machine; the controller is not needed for it."""

from __future__ import annotations

from collections.abc import Callable, Collection
from contextlib import suppress
from dataclasses import asdict, replace
from itertools import chain
from urllib.parse import urlsplit

from nmk.agent import last_check_in, liveness, state
from nmk.agent.astray import find_astray, find_picky
from nmk.agent.claimed import claimed_controllers, claimed_exit
from nmk.agent.claims import left_out
from nmk.agent.desired import Desired, desired, listen_port
from nmk.agent.elsewhere import point_there
from nmk.agent.exits import (
    NOT_UP,
    WayOut,
    find_way_out,
    leads_out,
    observe,
    observe_damaged,
    with_kill_switch,
)
from nmk.agent.http import dial
from nmk.agent.membership import Membership
from nmk.agent.own_link import find_doubles
from nmk.agent.peer_status import Row, Trails, bear_with, describe_clients, describe_peers
from nmk.agent.salvage import guarded, salvage
from nmk.agent.settings import local_settings, route_wishes, unread
from nmk.agent.tick import collect_facts, serves
from nmk.core.amounts import age_of
from nmk.core.check_in_health import CheckInHealth
from nmk.core.claims import find_declined
from nmk.core.gateways import NO_GATEWAY, hindered, obstacle_of
from nmk.core.peers import View
from nmk.core.problems import Problem, problem_of
from nmk.core.routes import Routing, idle_routing
from nmk.errors import (
    EXIT_TEMPORARY,
    CommandFailed,
    CommandUnanswered,
    InterfaceTaken,
    NmkError,
    StateDamaged,
    ToolMissing,
    all_errors,
)
from nmk.system import wireguard
from nmk.system.dump import Dump
from nmk.system.runner import Runner, find_tool
from nmk.tools import has_tool

_CONTROLLER_TIMEOUT = 2.0  # seconds

TROUBLES: dict[str, tuple[str, str]] = {
    "down": ("its owner took it down", "nmk up -n {}"),
    "missing": ("it is not there", "nmk up -n {}"),
    "taken": ("another program has made an interface of this name", "nmk doctor -n {}"),
    "unanswered": ("wg does not say how it is", "nmk doctor -n {}"),
    "joining": ("the join was cut short", "nmk join -"),
    "deleted": ("this node was deleted on the controller", "nmk leave -n {}"),
}
_LISTS = (
    "addresses",
    "copies",
    "left_out",
    "problems",
    "offered",
    "roles",
    "routes",
    "declined",
    "clients",
    "peers",
)


def status(
    network: str,
    run: Runner,
    now: float,
    *,
    reachable: Callable[[str], bool] | None = None,
    trails: Trails | None = None,
    held: NmkError | None = None,
) -> Row:
    """The network as an object for people and scripts. `now`: seconds since 1970.

    `state` is one of up, down (as its owner wishes), missing, taken, unanswered (by `wg`), joining,
    deleted, damaged (the state file cannot be read, and so nothing else is known); those of peers
    are in `core.health`, off where the interface is not up, and silent of gateways that this
    machine has given up.
    `reachable` tells whether a controller's URL answers; `left_out` are addresses that the mesh
    does not lead to from here, `problems` what of the view could not be applied, or leads
    elsewhere (`code`, `message`, `hint`), `clients` the ext clients that this node lets in,
    `check_in` how check-ins go, `copies` where machines with this identity are, if there are
    several; the rest as in `_describe_ways`. `trails` are kept from one look to the next, to see
    who is silent. `held`: what keeps everybody from changing this machine; it is among `problems`.
    """
    row = _status(network, run, now, reachable or is_reachable, {} if trails is None else trails)
    row["problems"] += [asdict(problem_of(held))] if held else []
    return row


def _status(
    network: str, run: Runner, now: float, reachable: Callable[[str], bool], trails: Trails
) -> Row:
    try:
        me = state.load(network)
    except StateDamaged as error:
        point_there(error, network)
        return _damaged(salvage(network, run), error, now, run)
    condition, dump = live(me, run)
    problem, cure = trouble(me, condition) or (None, None)
    local = local_settings(network, me)
    view = me.known.view if me.known else None
    lan = collect_facts(me, local).lan
    wish = desired(me, local, lan) if view else None
    if view and wish and not wish.roles:
        view = replace(view, gateway=NO_GATEWAY)  # which its owner may have declined
    silent = liveness.silent(me, dump)
    is_reached = any(map(reachable, me.urls))
    problems = _problems(me, led(me, wish, condition, run), dump, silent, run)
    problems += find_doubles(me, run) if condition in {"up", "missing"} else []
    if not is_reached:
        with suppress(CommandFailed):
            problems += claimed_controllers(me, me.urls, run)
    return {
        "network": network,
        "remote_name": me.remote_name,
        "name": view.name if view else me.wishes.name,
        "addresses": list(view.addresses) if view else [],
        "interface": me.interface,
        "state": condition,
        "problem": problem,
        "next": cure,
        "listen_port": dump.listen_port if dump else listen_port(me, local),
        "last_check_in": last_check_in.age(network, me, now),
        "check_in": describe_check_in(last_check_in.load(network, me), me, now),
        "controller": {"url": me.urls[0], "reachable": is_reached},
        "copies": list(me.copies),
        "left_out": [asdict(left) for left in left_out(me)],
        "problems": [asdict(p) for p in dict.fromkeys(problems)],
        **_describe_ways(me, view, wish, condition, silent, run),
        "clients": describe_clients(view, dump, now) if view else [],
        "peers": bear_with(describe_peers(view, dump, lan, now, trails, silent, network), me, now)
        if view
        else [],
    }


def _problems(
    me: Membership, routing: Routing, dump: Dump | None, silent: Collection[str], run: Runner
) -> list[Problem]:
    """What could not be applied, and what others lead elsewhere or have claimed."""
    found = [*unread(me), *me.problems]
    for name in ("ip", "wg"):
        try:
            find_tool(name)
        except ToolMissing as error:
            found.append(problem_of(error))
    if dump and has_tool("ip"):
        found += [*find_astray(me, routing, run), *find_picky(me, routing, run)]
    return [*found, *claimed_exit(me, silent, run)]


def _describe_ways(
    me: Membership,
    view: View | None,
    wish: Desired | None,
    condition: str,
    silent: Collection[str],
    run: Runner,
) -> Row:
    """What this node leads for others, and where it is led by them. `view`: with roles it plays.

    `offered`: the roles that the controller gives this node; `roles`: those that it plays;
    `obstacle`: what is in their way; `mapped`: the LANs behind ranges that it maps; `routes`: what
    becomes of ranges of others here; `declined`: who leaves out a range that this node leads to, as
    it is in that subnet itself; `exit` and `cut_off` as in `agent.exits`.
    """
    offered = me.known.view.gateway.roles if me.known else ()
    roles = wish.roles if wish and condition == "up" and serves(me) != "nft" else ()
    routing = led(me, wish, condition, run)
    return {
        "offered": list(offered),
        "roles": list(roles),
        "obstacle": _obstacle(me, condition) if offered else None,
        "mapped": dict(view.gateway.mapped) if view and roles else {},
        "routes": [asdict(route) for route in routing.routes],
        "declined": declined(view) if view and roles else [],
        **observe(me, find_way_out(me, routing, silent), run).as_json(),
    }


def _damaged(me: Membership, error: StateDamaged, now: float, run: Runner) -> Row:
    """A network whose state cannot be read, of which little else is known."""
    return {
        "network": me.network,
        "remote_name": me.remote_name,
        "name": None,
        "interface": me.interface,
        "state": "damaged",
        "problem": error.message,
        "next": error.hint,
        "listen_port": None,
        "last_check_in": last_check_in.age(me.network, None, now),
        "check_in": describe_check_in(last_check_in.load(me.network, None), me, now),
        "controller": {"url": None, "reachable": False},
        "obstacle": None,
        "mapped": {},
        **observe_damaged(me.network, run).as_json(),
        **{name: [] for name in _LISTS},
        "problems": [asdict(p) for p in unread(guarded(me.network, run))],
    }


def describe_check_in(health: CheckInHealth, me: Membership, now: float) -> Row:
    """How check-ins go; `worked` and `since` in seconds ago, negative in the future.

    `revision` is the one that this machine follows, `newest` the last that it was told of.
    """
    failure = health.failure
    return {
        "worked": None if health.worked is None else age_of(health.worked, now),
        "failure": failure
        and {
            **asdict(failure.problem),
            "since": age_of(failure.since, now),
            "count": failure.count,
        },
        "revision": health.revision,
        "newest": me.known.revision if me.known else 0,
    }


def live(me: Membership, run: Runner) -> tuple[str, Dump | None]:
    """The interface's state, as above, and what WireGuard says of it where it is up."""
    if me.phase != "joined":
        return me.phase, None
    if not wireguard.exists(me.interface):
        return "down" if me.down else "missing", None
    try:
        dump = wireguard.look(run, me.interface)
    except InterfaceTaken:
        return "taken", None
    except (CommandUnanswered, ToolMissing):
        return "unanswered", None
    return ("up", dump) if dump.private_key in {"", me.private_key} else ("taken", None)


def trouble(me: Membership, condition: str) -> tuple[str, str] | None:
    """What is wrong with an interface in that state, and what to do; None where nothing is."""
    if condition not in TROUBLES:
        return None
    problem, cure = TROUBLES[condition]
    failure = last_check_in.load(me.network, me).failure if condition == "joining" else None
    if failure is None:
        return problem, cure.format(me.network)
    is_passing = all_errors().get(failure.problem.code, NmkError).exit_code == EXIT_TEMPORARY
    return (
        f"the join failed: {failure.problem.message}",
        cure if is_passing else failure.problem.hint,
    )


def led(me: Membership, wish: Desired | None, condition: str, run: Runner) -> Routing:
    """What is led into the tunnel, by the interface's state: that of `live`.

    Where there is no `wg` that could tell it, by what the kernel does.
    """
    if wish is None:
        return Routing({})
    is_up = condition == "up"
    if condition == "unanswered" and not has_tool("wg"):
        is_up = leads_out(me, run)
    return wish.routing if is_up else idle_routing(wish.routing, NOT_UP)


def way_out(me: Membership, run: Runner) -> WayOut:
    """How everything leaves this machine now."""
    if me.known is None or route_wishes(me).exit_node is None:
        return with_kill_switch(me, WayOut(), run)
    condition, dump = live(me, run)
    local = local_settings(me.network, me)
    wish = desired(me, local, collect_facts(me, local).lan)
    routing = led(me, wish, condition, run)
    return observe(me, find_way_out(me, routing, liveness.silent(me, dump)), run)


def _obstacle(me: Membership, condition: str) -> str | None:
    """Why a gateway does not play its roles, or not all of them."""
    if condition != "up" or me.known is None:
        return NOT_UP
    said, offered = serves(me), me.known.view.gateway
    roles, obstacle = hindered(said, offered), obstacle_of(said, offered)
    if obstacle and roles != offered.roles:
        return f"{' and '.join(roles)} {'does' if len(roles) == 1 else 'do'} not serve: {obstacle}"
    return obstacle


def declined(view: View) -> list[Row]:
    """The peers that are in a subnet of their own where this node routes a range to."""
    behind = (c.ranges for c in view.clients.values() if c.via == view.id)
    ranges = (*view.gateway.ranges, *chain.from_iterable(behind))
    found = find_declined(ranges, ((p.name, p.lan) for p in view.peers.values()))
    return [
        {"range": cidr, "node": name, "subnet": subnet}
        for cidr in ranges
        for name, subnet in sorted(found.get(cidr, ()))
    ]


def is_reachable(url: str) -> bool:
    """Whether something takes connections at a URL."""
    parts = urlsplit(url)
    port = parts.port or {"http": 80, "https": 443}[parts.scheme]
    try:
        dial(parts.hostname or "", port, _CONTROLLER_TIMEOUT).close()
    except (OSError, UnicodeError):
        return False
    return True
