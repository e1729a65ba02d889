"""A network whose state cannot be read: what is left of it, and how it comes off the machine.

A machine must not stay cut off, or in a network, because a file is damaged. Whether an interface
is ours is told by its key, else by the mark that WireGuard's packets carry.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import zip_longest
from pathlib import Path
from typing import get_args

from nmk.agent import interface, kill_note, kill_switch, state, surroundings
from nmk.agent.attempts import Attempts
from nmk.agent.elsewhere import Elsewhere, check_not_elsewhere, elsewhere, point_there, told
from nmk.agent.heads import (
    field_of,
    head_of,
    interface_for,
    interface_of,
    is_copy,
    marked,
    note_opened,
    noted_in,
)
from nmk.agent.membership import Kind, Known, Membership, Wishes, parse_found
from nmk.agent.places import state_directory
from nmk.agent.settings import unread, wished
from nmk.core.parse import parse_label
from nmk.core.peers import View, parse_ranges
from nmk.core.route_table import NO_ORDER, is_order, table_of
from nmk.core.ruleset import is_ours, table_name
from nmk.core.settings import parse_local
from nmk.core.surroundings import NOTHING
from nmk.core.tunnel import MARK
from nmk.errors import BadInput, CommandFailed, InterfaceTaken, NmkError, NotJoined, StateDamaged
from nmk.system import filter as packet_filter
from nmk.system import routes, wireguard
from nmk.system.keys import generate_private_key, parse_private_key
from nmk.system.runner import Runner
from nmk.wire.envelope import Identity

OPEN = "nmk set -n {} kill-switch=off"
LOST = "lost"  # a network of which not even the name is left
_AGAIN = "end the nmk that lays it, as one with another NMK_STATE_DIR: ps -ef; then the same again"
_NOBODY = "unknown"  # an exit node of which the name cannot be read
_OFF: dict[str, int | str] = {"kill-switch": "off"}


@dataclass(frozen=True, slots=True)
class Leftovers:
    """What is nmk's on this machine and of no network that it has a state of.

    `networks`: told by their packet filter or interface; `interfaces`: WireGuard's, with our mark;
    `orders`: told by rules, of which nobody can say whose they are. `elsewhere`: what another state
    directory has, and so is none of these.
    """

    networks: tuple[str, ...] = ()
    interfaces: tuple[str, ...] = ()
    orders: tuple[int, ...] = ()
    elsewhere: tuple[Elsewhere, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.networks or self.interfaces or self.orders)

    @property
    def told(self) -> tuple[str, ...]:
        """What a machine is told that has no state of any network where it was looked for."""
        if self.elsewhere:
            there = told(self.elsewhere)
            return (f"no network has its state in {state_directory()}, but {there}",)
        more = ("and something of nmk's is left, which may let nothing out",) if self else ()
        return ("this machine is in no network", *more)

    @property
    def cure(self) -> str:
        """What shows networks elsewhere, else the commands that remove it; "" for nothing."""
        if self.elsewhere:
            return self.elsewhere[0].by("nmk status")
        names = self.networks or ((LOST,) if self else ())
        return "; ".join(f"nmk leave -n {name} --force" for name in names)


def leftovers(run: Runner) -> Leftovers:
    """What a state that was lost, or another version of nmk, has left. Changes nothing."""
    others = elsewhere()
    known = [salvage(network, run) for network in state.networks()]
    known += [salvage(e.network, run, e.directory) for e in others if e.network and not e.missing]
    tables = packet_filter.names(run) - {table_name(me.network) for me in known}
    named = {table: name for table in tables if (name := _network_of(table))}
    networks = {n for table, n in named.items() if is_ours(packet_filter.listing(run, table))}
    interfaces = marked(run) - {me.interface for me in known}
    usual = {interface_for(network) for network in networks}
    networks |= {name for i in interfaces - usual if (name := _network_of(i))}
    orders = set[int]()
    with suppress(NmkError):
        orders = routes.orders(run) - {me.order for me in known if "routes" in me.laid}
    return Leftovers(
        tuple(sorted(networks)), tuple(sorted(interfaces)), tuple(sorted(orders)), tuple(others)
    )


def choose(network: str | None, run: Runner, hint: str | None = None) -> str:
    """As `state.choose`; where the state is elsewhere or lost, with what shows or removes that."""
    try:
        return state.choose(network, hint)
    except NotJoined as error:
        left = leftovers(run)
        there = [e for e in left.elsewhere if None in {network, e.network} or e.network == network]
        if there:
            error.message += f", as {state_directory()} has it, but in {told(there)}"
            error.hint = there[0].by("nmk status")
        elif not state.networks():
            error.hint = left.cure or error.hint
        raise


def remove_leftovers(network: str, run: Runner) -> bool:
    """Remove what is left of a network; with the last one, all that nobody can say whose it is.

    Whether there was anything. Hold the lock. Raises NotJoined where that is of a network whose
    state is elsewhere, be it there or only noted, or may be an agent's that runs; CommandFailed
    where some of it is still there, the rest removed.
    """
    left = leftovers(run)
    for there in left.elsewhere:
        if there.network in {network, None}:
            what = f"the state of {there.name} is in {there.where}"
            raise NotJoined(what, there.by(f"nmk leave -n {there.network}"))
    if not left or (left.networks and network not in left.networks):
        return False
    usual = interface_for(network)
    is_last = set(left.networks) <= {network} and not any(e.missing for e in left.elsewhere)
    interfaces = [i for i in left.interfaces if is_last or i == usual] or [usual]
    orders = left.orders if is_last else ()
    tried = Attempts()
    for name, order in zip_longest(interfaces, orders):
        me = replace(salvage(network, run), interface=name or usual)
        key = _private_key(b"", me.interface, run)
        me = _with_order(replace(me, private_key=key), order)
        with tried.step():
            interface.remove(me, run)
    tried.complain()
    now = Leftovers() if run.dry else leftovers(run)
    if network in now.networks or {*interfaces} & {*now.interfaces} or {*orders} & {*now.orders}:
        raise CommandFailed(f"something of {network} is there again", _AGAIN)
    return True


def _network_of(name: str) -> str | None:
    """The network after which a packet filter or an interface is called, as we call them."""
    prefix = table_name("")
    with suppress(BadInput):
        return parse_label(name.removeprefix(prefix)) if name.startswith(prefix) else None
    return None


def salvage(network: str, run: Runner, directory: Path | None = None) -> Membership:
    """As much as is needed to remove the network's interface and what lies around it.

    `directory`: where its state is, if elsewhere.
    """
    head = head_of(network, directory)
    me = _begin(network, head, run)
    me = replace(me, private_key=_private_key(head, me.interface, run), phase="deleted")
    return _with_order(me, _order(me, field_of(head, "order"), run))


def guarded(network: str, run: Runner) -> Membership:
    """As much as a kill switch takes: its owner's wishes, as far as they are there, and ranges.

    A kill switch is one whatever became of the exit node's name.
    """
    head = head_of(network)
    me = _begin(network, head, run)
    held = field_of(head, "as_read")
    is_joining = field_of(head, "phase") == "joining" and not kill_note.noted(network)
    cidrs: tuple[str, ...] = ()
    with suppress(BadInput):
        cidrs = parse_ranges(field_of(head, "ranges"))
    files = held.items() if isinstance(held, dict) else ()
    return replace(
        me,
        phase="joining" if is_joining else "joined",
        wishes=Wishes(settings=_noted(network, head)[0]),
        as_read={file: _settings(values) for file, values in files},
        known=Known(b"", 0, "", View(network, cidrs, {}, "", "", (), (), {})),
    )


def is_untold(me: Membership) -> bool:
    """Whether nobody can tell if a kill switch is wanted. `me`: as of `guarded`.

    Raises BadInput.
    """
    found = {name: value for name, (value, _) in wished(me.network, me).items()}
    if me.phase == "joining" or _noted(me.network, head_of(me.network))[1]:
        return False
    exit_node, kill = (found.get(name) for name in ("exit-node", "kill-switch"))
    return not (exit_node == "" or kill == "off" or (exit_node and kill))


def load(network: str, run: Runner) -> Membership:
    """The network's state. Where it cannot be read, its kill switch is laid before that is raised.

    Hold the lock. Raises NotJoined, StateDamaged, StateNewer, which also say what is wrong with the
    owner's settings: nothing else tells of a kill switch then.
    """
    try:
        return state.load(network)
    except StateDamaged as error:
        me = guarded(network, run)
        with suppress(NmkError):
            kill_switch.lay_alone(me, run)
        for problem in unread(me):
            error.message += f"; {problem.message}"
            error.hint = f"{problem.hint}; and {error.hint}"
        point_there(error, network)
        raise


def _begin(network: str, head: bytes, run: Runner) -> Membership:
    return Membership(
        network=network,
        remote_name=network,
        urls=(),
        controller_key=b"",
        identity=Identity.generate(),
        private_key="",
        interface=interface_of(network, head, run),
        listen_port=0,
        found=_found(head),
    )


def _noted(network: str, head: bytes) -> tuple[dict[str, int | str], bool]:
    """What `nmk set` has noted, as far as that can be read, and whether that tells enough.

    Of a kill switch its own note tells, where there is one.
    """
    noted, is_whole = noted_in(head)
    found = _settings(noted)
    shut = kill_note.noted(network)
    if shut is not None:
        return {"exit-node": _NOBODY, **found, "kill-switch": "on"} if shut else found | _OFF, True
    if (len(found) == len(noted) and is_whole) or is_copy(network):
        return found, True
    if "exit-node" in noted or found.get("kill-switch") == "on":
        found.setdefault("exit-node", _NOBODY)
    return found, False


def _settings(noted: object) -> dict[str, int | str]:
    """Those that can be read."""
    found = {}
    for name, value in noted.items() if isinstance(noted, dict) else ():
        with suppress(BadInput):
            found[name] = parse_local(name, value)
    return found


def _with_order(me: Membership, order: int | None) -> Membership:
    """What all a network may have laid; without an order no rules, as nobody knows of any."""
    laid = frozenset(get_args(Kind)) - ({"routes"} if order is None else set())
    return replace(me, order=NO_ORDER if order is None else order, laid=laid)


def open_way(network: str, run: Runner) -> Membership:
    """Let everything out past the network, kill switch or not; its interface stays.

    Raises StateUnwritable where the file goes on saying that a kill switch is wanted, CommandFailed
    where something is still in the way, AlreadyJoined where the network's state is elsewhere.
    """
    check_not_elsewhere(network)
    tried = Attempts()
    if not run.dry:  # first, by nft alone: what else the machine lacks is no hindrance
        with tried.step():
            kill_switch.open_standing(network, run)
        with tried.step():
            note_opened(network)
    me = salvage(network, run)
    work = surroundings.plan(me, NOTHING, run)
    surroundings.begin(me, work, run, tried)
    after = surroundings.finish(me, work, run, tried)
    tried.complain()
    if not run.dry:
        surroundings.check_removed(me, NOTHING, run)
    return after


def take_down(network: str, run: Runner) -> Membership:
    """Remove the interface. A kill switch stays shut: only its owner opens it.

    Raises AlreadyJoined where the network's state is elsewhere.
    """
    check_not_elsewhere(network)
    me = salvage(network, run)
    with suppress(InterfaceTaken):
        if interface.is_ours(me, wireguard.probe(run, me.interface)):
            wireguard.remove(run, me.interface)
    return me


def _private_key(head: bytes, name: str, run: Runner) -> str:
    """That of an interface which nmk has made, else that of the file; else a new one."""
    with suppress(NmkError):
        live = wireguard.probe(run, name)
        if live and live.mark == MARK:
            return live.private_key
    with suppress(BadInput):
        return parse_private_key(str(field_of(head, "private_key")))
    return generate_private_key()


def _found(head: bytes) -> dict[str, str]:
    """Kernel settings as they were before nmk changed them, those that can be read."""
    noted = field_of(head, "found")
    found = {}
    for path, value in noted.items() if isinstance(noted, dict) else ():
        with suppress(BadInput, AttributeError):
            found[path] = parse_found(path, value)
    return found


def _order(me: Membership, noted: object, run: Runner) -> int | None:
    """The one that rules of this machine tell of, and that no other network may have.

    Whose routes lead into the network's interface, else what is noted in the damaged file, else the
    only one that is left. None where nobody can tell: what is another's stays.
    """
    others: list[tuple[str, Path | None]] = [
        (name, None) for name in state.networks() if name != me.network
    ]
    others += [(e.network, e.directory) for e in elsewhere() if e.network]
    heads = [field_of(head_of(name, place), "order") for name, place in others]
    left = routes.orders(run) - {order for order in heads if is_order(order)}
    ours = [order for order in left if routes.leads_into(run, table_of(order), me.interface)]
    if ours:
        return min(ours)
    if is_order(noted):
        return noted
    is_sure = len(left) == 1 and all(map(is_order, heads))
    return min(left) if is_sure else None
