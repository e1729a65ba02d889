"""The WireGuard interface of one membership: desired -> probe -> diff -> plan -> execute."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace

from nmk.agent import history, hooks, kill_switch, own_link, own_place, surroundings
from nmk.agent.attempts import Attempts
from nmk.agent.desired import Local, desired, desired_when_down, listen_port
from nmk.agent.heads import holder_of
from nmk.agent.history import Reason
from nmk.agent.kernel_settings import settle_link
from nmk.agent.membership import Membership
from nmk.agent.others import others_of
from nmk.agent.settings import local_settings, take_note
from nmk.core.commands import remove_link
from nmk.core.hooks import Event, events_of
from nmk.core.parse import quote
from nmk.core.route_table import NO_ORDER, table_of
from nmk.core.surroundings import NOTHING, Surroundings
from nmk.core.traffic import Caller, encode_callers, encode_traffic, sum_up
from nmk.core.tunnel import (
    Change,
    Command,
    Tunnel,
    diff_tunnel,
    peer_sections,
    plan_changes,
    without_endpoint,
)
from nmk.errors import (
    BadInput,
    BatchFailed,
    CommandFailed,
    CommandUnanswered,
    FamilyOff,
    InterfaceTaken,
    NmkError,
    NoteUnwritable,
    OpenForwarding,
    OpenLoopback,
    PortTaken,
    ToolMissing,
    from_code,
)
from nmk.system import ports, routes, wireguard
from nmk.system.dump import Dump, Link
from nmk.system.runner import Runner

MOVED = (
    "its process goes on, and it is not here: moved to another network namespace, as it seems",
    "move it back, or make it anew: nmk down -n {0}; nmk up -n {0}",
)
_NO_FAILURE = {FamilyOff.code, NoteUnwritable.code, OpenForwarding.code, OpenLoopback.code}
_MOST_BAD = 8  # peers that WireGuard refuses; with more of them it is not about peers


def apply(
    me: Membership,
    run: Runner,
    local: Local,
    lan: tuple[str, ...],
    reason: Reason,
    dump: Dump | None = None,
) -> Membership:
    """Make the interface what the view says; `lan` are the machine's own addresses.

    A kill switch is laid or opened first, whatever then fails or hangs. Repeat-safe, and no command
    at all where nothing differs. Where the owner wants the interface down it is removed. `dump`:
    what `look` gave. One that must be made gets another port if its own has been taken. What is
    independent of a part that cannot be done is done; what was not is in the membership's problems.
    Raises InterfaceTaken when the one of that name is not ours, PortTaken when the port that its
    owner asked for is in use, CommandFailed when there is no interface then.
    """
    me, unread = take_note(me)
    if me.known is None or me.down:
        return remove(me, run, reason, keep=desired_when_down(me))
    wish = desired(me, local, lan)
    tried, told = Attempts(), list[Change]()
    with history.recording(me, reason, told, run, tried):
        is_shut = kill_switch.settle_first(me, wish.surroundings, run, tried, told)
        placed = own_place.settle(me, run)
        renamed = _name_again(me, run)
        if renamed or placed != me:  # its subnets, and rules, were another's until now
            me, is_shut, told = placed, False, told + renamed
            wish = desired(me, local, lan)
        live = wireguard.probe(run, me.interface, dump)
        if not is_ours(me, live):
            raise _taken(me)
        me = with_usable_port(me, local, live)
        want = replace(wish.tunnel, listen_port=listen_port(me, local))
        changes = diff_tunnel(want, live, me.endpoints)
        work = surroundings.plan(me, wish.surroundings, run, is_shut=is_shut)
        told += [*changes, *work.changes]
        is_noted = False
        with tried.step():
            me, work = surroundings.begin(me, work, run, tried)
            is_noted = True
        if live:
            told += settle_link(me.interface, run, tried)
        bad = execute(run, me, want, live, changes, tried)
        own_link.note(me, run)
        given = {p.key: p.endpoint for p in want.peers.values() if p.endpoint and p.key not in bad}
        me = replace(me, endpoints=given)
        if is_noted:
            me = surroundings.finish(me, work, run, tried)
    hooks.call(events_of(want, live, changes), me, history.names_of(me, reason), run)
    return replace(me, problems=(*unread, *wish.problems, *tried.problems))


def _taken(me: Membership) -> InterfaceTaken:
    """That an interface of our name is not ours."""
    what = f"the interface {quote(me.interface)} has a key that is not {me.network}'s"
    if holder := holder_of(me.interface, me.network):
        hint = f"it is that of {holder}; nmk leave -n {me.network}, then join with --interface NAME"
        return InterfaceTaken(what, hint)
    return InterfaceTaken(what, remove_link(me.interface))


def complain(me: Membership) -> None:
    """Raise the first thing that could not be done, but for what the tunnel does without."""
    for problem in me.problems:
        if problem.code not in _NO_FAILURE:
            raise from_code(problem.code, problem.message, problem.hint)


def with_usable_port(me: Membership, local: Local, live: Tunnel | Dump | None) -> Membership:
    """The membership with a UDP port that WireGuard has or can have; another one if need be.

    Raises PortTaken where that is the one that its owner asked for.
    """
    port = listen_port(me, local)
    here = live.listen_port if live else 0
    if here == port or ports.is_free(port):
        return me
    if me.wishes.listen_port or "listen-port" in local:
        raise PortTaken(
            f"UDP port {port} is in use",
            "free it (a hub that was taken over?), or ask for another listen-port",
        )
    return replace(me, listen_port=here or ports.next_free(port + 1, reserved_ports(me.network)))


def reserved_ports(network: str) -> set[int]:
    """The UDP ports of the other networks of this machine, whether they are up or not."""
    found = set()
    for other in others_of(network):
        with suppress(BadInput):  # a mistake in that network's settings is no trouble of this one
            found.add(listen_port(other, local_settings(other.network, other)))
    return found


def execute(
    run: Runner,
    me: Membership,
    want: Tunnel,
    live: Tunnel | None,
    changes: list[Change],
    tried: Attempts,
) -> set[str]:
    """Run the commands for the changes. Keys of the peers that WireGuard did not take as they are.

    Raises CommandFailed where there is no interface, or it is not up.
    """
    ways = wireguard.creations(want.interface) if live is None else [Command(())]
    bad = set[str]()
    for command in plan_changes(want, live, changes, me.endpoints, ways[0].argv):
        if command == ways[0]:
            _create(run, me, ways)
            own_link.note(me, run)  # whatever then fails, it is known as ours
            settle_link(me.interface, run, tried)  # before it is up
        elif command.argv[0] == "wg":
            bad = _configure(run, me, command, tried)
        else:
            try:
                run.change(command)
            except BatchFailed as error:
                if any(line.startswith("link ") for line in error.lines):
                    raise
                tried.errors.append(error)
    return bad


def _configure(run: Runner, me: Membership, command: Command, tried: Attempts) -> set[str]:
    """Give WireGuard its configuration, as far as it takes it. Keys of peers that it refuses."""
    try:
        run.change(command)
    except CommandFailed as error:
        found = _find_refused(run, me.interface, peer_sections(command.stdin or ""))
        if found is None or not found:
            raise
        text = command.stdin or ""
        for section in found:
            text = text.replace(section, without_endpoint(section))
        run.change(Command(command.argv, text))
        names = {p.key: p.name for p in me.known.view.others} if me.known else {}
        keys = {line.split()[-1] for s in found for line in s.splitlines() if "PublicKey" in line}
        who = ", ".join(sorted(names.get(key, key) for key in keys))
        tried.errors.append(CommandFailed(f"WireGuard takes no endpoint of {who}: {error.message}"))
        return keys
    return set()


def _find_refused(run: Runner, interface: str, sections: list[str]) -> list[str] | None:
    """Those of the peers that WireGuard refuses, the others set; None where they are many."""
    found: list[str] = []
    rest = [sections] if sections else []
    while rest:
        part = rest.pop()
        try:
            argv = ("wg", "addconf", interface, "/dev/stdin")
            run.change(Command(argv, "\n".join(part)))
        except CommandFailed:
            middle = len(part) // 2
            rest += [part[:middle], part[middle:]] if middle else []
            found += [] if middle else part
        if len(found) > _MOST_BAD:
            return None
    return found


def _create(run: Runner, me: Membership, ways: list[Command]) -> None:
    """Make the interface. Raises CommandFailed, which tells of one that was moved away."""
    try:
        wireguard.create(run, ways, me.interface)
    except CommandFailed as error:
        if wireguard.is_served_elsewhere(me.interface):
            problem, cure = MOVED
            error.message = f"{me.interface}: {problem}; {error.message}"
            error.hint = cure.format(me.network)
        raise


def remove(
    me: Membership, run: Runner, reason: Reason | None = None, keep: Surroundings = NOTHING
) -> Membership:
    """Remove the interface if it is ours, and what lies beside it but for what is to be kept.

    One that is not ours stays. Where a part cannot be removed the others are; then CommandFailed,
    CommandUnanswered where nobody tells whose the interface is, ToolMissing. What was removed is
    looked at again.
    """
    tried, told, before = Attempts(), list[Change](), me
    with history.recording(me, reason or Reason("down"), told if reason else (), run, tried):
        is_shut = kill_switch.settle_first(me, keep, run, tried, told)
        with tried.step():
            placed = own_place.settle(me, run)
            if placed != me:
                before = me = placed
                keep = desired_when_down(me) if keep != NOTHING else NOTHING
        told += _name_again(me, run)
        try:
            work = surroundings.plan(me, keep, run, is_shut=is_shut)
        except ToolMissing as error:  # `ip`: what of the rest needs none goes
            tried.errors.append(error)
            rest = replace(me, laid=me.laid - {"routes"}, order=NO_ORDER)
            work = surroundings.plan(rest, keep, run, is_shut=is_shut)
        live = None
        with tried.step():
            live = _find_ours(me, run, tried)
        told += [Change("remove", f"remove {me.interface}")] if live else []
        told += work.changes
        me, work = surroundings.begin(me, work, run, tried)
        # Routes go with the interface: they are not to be deleted then.
        surroundings.lay(me, work, run, tried)
        with tried.step():
            if live or (own_link.noted(me.network) and not wireguard.exists(me.interface)):
                wireguard.remove(run, me.interface)
                own_link.forget(me, run)
        me = surroundings.end(me, work, run, tried)
    if live and live.up:
        hooks.call([Event("down")], me, {}, run)
    tried.complain()
    if told and not run.dry:
        surroundings.check_removed(before, keep, run)
    return replace(me, problems=())


def is_left(me: Membership, run: Runner) -> bool:
    """Whether our interface is there, or one that may be ours."""
    tried = Attempts()
    with tried.step():
        return _find_ours(me, run, tried) is not None or bool(tried.errors)
    return True


def _find_ours(me: Membership, run: Runner, tried: Attempts) -> Link | None:
    """Our interface as the kernel has it; None where there is none of that name, or not ours.

    Where WireGuard says nothing of it, it is ours if it is noted as that, has our addresses or our
    routes lead into it; else it may be, and what `wg` has said is in `tried`. Raises ToolMissing.
    """
    if not wireguard.exists(me.interface):
        return None
    with suppress(InterfaceTaken):
        try:
            key = wireguard.look(run, me.interface).private_key
        except (CommandUnanswered, ToolMissing) as error:
            link = wireguard.find_link(run, me.interface)
            addresses = me.known.view.addresses if me.known else ()
            ours = {address.partition("/")[0] for address in addresses}
            has_ours = any(address.partition("/")[0] in ours for address in link.addresses)
            if own_link.is_noted(me) or has_ours:
                return link
            if routes.leads_into(run, table_of(me.order), me.interface):
                return link
            tried.errors.append(error)
            return None
        return wireguard.find_link(run, me.interface) if _is_key_of(me, key) else None
    return None


def _name_again(me: Membership, run: Runner) -> list[Change]:
    """Find our interface where another program has renamed it: routes and rules are for its name.

    One that its owner made, such as of what showconf printed, is another, though it has our key.
    Raises CommandFailed.
    """
    name = wireguard.renamed(run, me.interface, me.private_key, own_link.noted(me.network))
    if not name:
        return []
    wireguard.name_again(run, name, me.interface)
    return [Change("rename", f"call {name} {me.interface} again")]


def look(me: Membership, run: Runner) -> Dump | None:
    """What WireGuard says of the interface; None where that cannot be told."""
    if not wireguard.exists(me.interface):
        return None
    try:
        dump = wireguard.look(run, me.interface)
    except NmkError:
        return None
    return dump if dump.private_key in {"", me.private_key} else None


def traffic(me: Membership, dump: Dump | None, now: float) -> str:
    """The summary that goes with a check-in, "" where there is none. `now`: seconds since 1970."""
    if dump is None or me.known is None:
        return ""
    ids = {other.key: other.id for other in me.known.view.others}
    return encode_traffic(
        sum_up({ids[k]: p.counters(now) for k, p in dump.peers.items() if k in ids})
    )


def callers(me: Membership, dump: Dump | None, now: float) -> str:
    """What this gateway's ext clients are up to, "" where it is none. `now`: as above."""
    if dump is None or me.known is None or me.known.view.gateway.ingress is None:
        return ""
    found = {}
    for client in me.known.view.clients.values():
        there = dump.peers.get(client.key)
        if there and there.handshake:
            found[client.id] = Caller(there.counters(now), there.peer.endpoint)
    return encode_callers(found)


def is_ours(me: Membership, live: Tunnel | None) -> bool:
    """Whether an interface of our name is the one we made, or has no key yet, or is not there."""
    return live is None or _is_key_of(me, live.private_key)


def _is_key_of(me: Membership, key: str) -> bool:
    """Whether ours has that key: it has another one where the state was put back since."""
    return key in {"", me.private_key} or own_link.is_noted(me)
