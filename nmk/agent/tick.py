"""One check-in: facts -> check-in -> desired -> probe -> diff -> plan -> execute.

Whole desired state in, repeat-safe: a tick that finds nothing changed runs no command that
changes anything and writes no file.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, fields, replace

from nmk.agent import (
    interface,
    kill_note,
    kill_switch,
    last_check_in,
    liveness,
    salvage,
    state,
    surroundings,
)
from nmk.agent.api import NodeApi
from nmk.agent.claims import inside_others
from nmk.agent.desired import Local, desired_when_down, has_roles, keeps_in, listen_port
from nmk.agent.exchange import Told, check_in
from nmk.agent.history import Reason
from nmk.agent.lock import RETURN_SECONDS, machine_lock
from nmk.agent.membership import Membership
from nmk.agent.places import runtime_directory
from nmk.agent.settings import local_settings, route_wishes
from nmk.core.gateways import SERVES, lacking
from nmk.core.parse import parse_endpoint, with_port
from nmk.core.peers import View
from nmk.core.problems import problem_of
from nmk.core.records import PROTOCOL, Facts
from nmk.core.settings import NETWORK_SETTINGS
from nmk.core.surroundings import forwarding_of
from nmk.errors import (
    Locked,
    NmkError,
    NodeDeleted,
    NotJoined,
    Overtaken,
    StateUnwritable,
    Unreadable,
)
from nmk.system import sysctl, wireguard
from nmk.system.dump import Dump
from nmk.system.facts import machine_instance, own_addresses
from nmk.system.keys import public_key
from nmk.system.runner import Runner
from nmk.tools import has_tool
from nmk.unforeseen import as_ours

CHANGE, RESTORE = Reason("change"), Reason("restore")
_STILL_TRUE = 1.0  # seconds that what was looked at is taken to be so


@dataclass(frozen=True, slots=True)
class Asking:
    """What a check-in has to begin with: the machine as it was `at` that time, and what it tells.

    `dump`: what WireGuard said; `news`: of gateways, a line each; `at`: monotonic; `is_laid`: what
    is on disk was put in place, all that lies beside the interface too.
    """

    me: Membership
    local: Local
    facts: Facts
    told: Told
    dump: Dump | None
    news: tuple[str, ...]
    at: float
    is_laid: bool


def check_in_network(
    network: str, run: Runner, seconds: float = 0.0, *, dry_me: Membership | None = None
) -> Membership:
    """One tick of a network that this machine is in: one check-in, and what follows from it here.

    It is `begin`, `ask` and `end`: the lock is held before and after, not while the controller is
    waited for, and whatever was done to the machine meanwhile stays done. `seconds`, `dry_me`: as
    `begin`. Raises what these do.
    """
    asking = begin(network, run, seconds, dry_me=dry_me)
    return end(asking, ask(asking, run), run)


def begin(
    network: str, run: Runner, seconds: float = 0.0, *, dry_me: Membership | None = None
) -> Asking:
    """What is on disk is put in place, and what there is to tell the controller gathered.

    `seconds`: as `locked`. `dry_me`: what a dry run goes by in the place of what is on disk.
    Raises Locked, NotJoined; NodeDeleted once the controller has said so; what else goes wrong is
    noted as the check-in's.
    """
    with _noting(network, run), machine_lock(run, seconds):
        return _begin(dry_me or _member(network, run), run)


def ask(asking: Asking, run: Runner) -> Membership | NmkError:
    """What the controller says. It takes time, and so no lock; nothing here is touched."""
    try:
        with as_ours():
            return check_in(asking.me, api_of(asking.me), asking.facts, asking.told, dry=run.dry)
    except NmkError as error:
        return error


def end(asking: Asking, outcome: Membership | NmkError, run: Runner) -> Membership:
    """Take in what the controller said, make the machine so, and note how it went.

    Raises Locked, Overtaken; NodeDeleted, which only ever comes under seal and takes the interface
    down for good; and any other NmkError, where the machine is as the state on disk has it.
    """
    with _noting(asking.me.network, run), machine_lock(run, RETURN_SECONDS):
        return _end(asking, outcome, run)


@contextmanager
def _noting(network: str, run: Runner) -> Iterator[None]:
    """Note a check-in that fails, but for one that cannot begin or has been overtaken.

    Raises NmkError, also in the place of what nobody has foreseen.
    """
    try:
        with as_ours():
            yield
    except (Locked, NotJoined):
        raise
    except NmkError as error:
        if not run.dry:
            with suppress(NmkError), as_ours(), machine_lock(run, RETURN_SECONDS):
                last_check_in.failed(network, problem_of(error))
        raise


def still_there(before: Membership) -> Membership:
    """The membership as it is now that the network has been waited for. Raises Overtaken.

    Hold the lock.
    """
    now = state.find(before.network)
    if now is None or now.identity.public != before.identity.public:
        raise Overtaken(f"{before.network} was left, or joined anew, by another run of nmk")
    return now


def adopt(now: Membership, asked: Membership, after: Membership) -> Membership:
    """`now` with what the controller told a run that began with `asked`, and made `after` of it.

    `now` as it is, where it has gone on from where that run began: then it is of no use.
    """
    if _standing(now) != _standing(asked):
        return now
    names = [f.name for f in fields(after)]
    told = {n: getattr(after, n) for n in names if getattr(after, n) != getattr(asked, n)}
    if "urls" in told:
        told["urls"] = tuple(dict.fromkeys((*told["urls"][:1], *now.urls)))
    return replace(now, **told)


def _standing(me: Membership) -> tuple[object, ...]:
    known = me.known
    point = known and (known.epoch, known.revision, known.commit_id)
    return me.phase, me.private_key, me.seq, me.reported, point


def watch_gateways(network: str, run: Runner) -> bool:
    """Look whether the gateways that it matters of are up, and follow.

    Whether there is anything to watch. Needs no controller.
    """
    with machine_lock(run, 0):
        me = state.load(network)
        if me.phase != "joined" or me.down or not liveness.matters(me):
            return False
        dump = interface.look(me, run)
        news = liveness.look(me, dump)
        if news:
            local = local_settings(network, me)
            lan = collect_facts(me, local).lan
            try:
                after = interface.apply(me, run, local, lan, Reason("gateway", news=news), dump)
            except NmkError:
                liveness.forget(network)  # so that it is noticed, and tried, once more
                raise
            keep(me, after, run)
            interface.complain(after)
        return True


def put_right(network: str, run: Runner, reason: Reason = CHANGE) -> Membership:
    """Make the machine so once more, by what is known: something else on it has changed."""
    with machine_lock(run, 0):
        return make_so(salvage.load(network, run), run, reason)


def put_others_right(network: str, run: Runner) -> None:
    """The same for the other networks, whose rules depend on this one's exit node and roles.

    Hold the lock. What cannot be done is said; their own check-ins try it again.
    """
    for other in state.others(network):
        try:
            make_so(other, run, CHANGE)
        except NmkError as error:
            run.warn(f"{other.network}: {error.message}")


def seen_by_others(me: Membership) -> tuple[bool, bool, bool]:
    """What the machine's other networks go by.

    Whether this one has an exit node, any roles, and a kill switch.
    """
    exits = me.phase == "joined" and not me.down and route_wishes(me).exit_node is not None
    return exits, has_roles(me), keeps_in(me)


def make_so(me: Membership, run: Runner, reason: Reason) -> Membership:
    """Put in place what is on disk; while the interface is down, what stays then. Hold the lock."""
    after = me
    if me.phase == "deleted":
        after = interface.remove(me, run, reason, desired_when_down(me))
    elif me.phase == "joined":
        local = local_settings(me.network, me)
        after = interface.apply(me, run, local, collect_facts(me, local).lan, reason)
    keep(me, after, run)
    return after


def newest_handshake(network: str, run: Runner) -> float:
    """When any peer was heard last, in seconds since 1970; 0 where none was."""
    dump = interface.look(state.load(network), run)
    return max((peer.handshake for peer in dump.peers.values()), default=0) if dump else 0


def api_of(me: Membership) -> NodeApi:
    """The membership's controller."""
    source = str(state.file_of(me.network))
    anew = (
        "look who answers there, and put controller.key back on the controller's host; only where "
        "that controller is gone for good, as with the membership a kill switch goes: "
        f"nmk leave -n {me.network} --force, then {Unreadable.default_hint}"
    )
    return NodeApi(
        me.urls, me.controller_key, me.identity, me.remote_name, source, when_unknown=anew
    )


def _member(network: str, run: Runner) -> Membership:
    """The membership on disk. Raises NotJoined, NodeDeleted."""
    me = salvage.load(network, run)
    if me.phase == "joining":
        raise NotJoined(f"joining {network} did not come to its end", "nmk join -")
    if me.phase == "deleted":
        make_so(me, run, RESTORE)
        raise NodeDeleted(
            f"this machine's node in {network} was deleted on the controller",
            f"nmk join -, with a new token; or nmk leave -n {network}",
        )
    return me


def _begin(me: Membership, run: Runner) -> Asking:
    """What is on disk put in place, before any controller is asked; and all that is to be told."""
    if not run.dry:
        with suppress(StateUnwritable):  # a note that was lost, or put back, with another state
            kill_note.follow(me)
    if not run.dry and kill_switch.is_open(me, run):
        kill_switch.lay(me, run)
    local = local_settings(me.network, me)
    dump = interface.look(me, run)
    news = liveness.look(me, dump)
    up, is_laid = me, False
    if not run.dry and (_is_guarded(me) or not wireguard.exists(me.interface)):
        lan = collect_facts(me, local).lan
        reason = Reason("gateway", news=news) if news else RESTORE
        with suppress(NmkError):  # it is tried again in the end, the controller may know better
            up = interface.apply(me, run, local, lan, reason, dump)
            keep(me, up, run)
            is_laid = True
        dump = dump or interface.look(up, run)
    facts = replace(collect_facts(up, local), listen_port=listen_port(up, local))
    now = time.time()
    told = Told(
        interface.traffic(up, dump, now),
        interface.callers(up, dump, now),
        serves(up),
        last_check_in.told(up, now),
    )
    return Asking(up, local, facts, told, dump, news, time.monotonic(), is_laid)


def _is_guarded(me: Membership) -> bool:
    """Whether what is missing beside the interface may let out what must not leave."""
    return me.down or bool(me.laid) or route_wishes(me).exit_node is not None


def _end(asking: Asking, outcome: Membership | NmkError, run: Runner) -> Membership:
    """Take in what the controller said, and make the machine so. Raises what it refused."""
    me = asking.me if run.dry else still_there(asking.me)
    if isinstance(outcome, NodeDeleted):
        gone = replace(me, phase="deleted")
        keep(me, gone, run)
        make_so(gone, run, Reason("deleted"))
        raise outcome
    is_old = me != asking.me or time.monotonic() - asking.at > _STILL_TRUE
    failed = isinstance(outcome, NmkError)
    after = me if isinstance(outcome, NmkError) else adopt(me, asking.me, outcome)
    keep(me, after, run)
    applied = after
    if is_old or after != asking.me or not asking.is_laid:
        local, lan, dump = asking.local, asking.facts.lan, asking.dump
        if is_old or asking.is_laid:
            local = local_settings(me.network, me)
            lan, dump = collect_facts(me, local).lan, interface.look(me, run)
        before = me.known.view if me.known else None
        reason = Reason("failed-check-in" if failed else "check-in", before, asking.news)
        applied = interface.apply(after, run, local, lan, reason, dump)
    noted = applied if run.dry or failed else last_check_in.worked(applied)
    keep(after, noted, run)
    if isinstance(outcome, NmkError):
        raise outcome
    if has_roles(me) != has_roles(noted) and not run.dry:
        put_others_right(me.network, run)
    return noted


def collect_facts(me: Membership, local: Local) -> Facts:
    """What the controller should know of this machine."""
    settings = {**(me.known.view.settings if me.known else {}), **local}
    pinned, port = me.wishes.endpoint, listen_port(me, local)
    return Facts(
        wg_key=public_key(me.private_key),
        listen_port=port,
        lan=own_addresses(leave_out=[me.interface]),
        interval=settings.get("interval", NETWORK_SETTINGS["interval"].default),
        endpoint=pinned and parse_endpoint(with_port(pinned, port)),
        instance=machine_instance(runtime_directory()),
        protocol=PROTOCOL,
    )


def serves(me: Membership) -> str:
    """What a gateway says of its roles, as in `core.gateways`; "" before it plays them."""
    if me.known is None or not me.known.view.gateway.roles:
        return ""
    if not route_wishes(me).roles:
        return "accept-roles"
    if not has_tool("nft"):
        return "nft"
    if me.down:
        return "down"
    if obstacle := lacking(me.known.view.gateway, wireguard.exists):
        return obstacle
    return _plays(me, me.known.view) if surroundings.is_settled(me) else ""


def _plays(me: Membership, view: View) -> str:
    """The same of a gateway that has all that it needs, once its filter is in place."""
    if all(sysctl.read(path) != "0" for path in forwarding_of(view)):  # None: no IPv6
        return "network" if inside_others(me) else SERVES
    return "forwarding"


def keep(before: Membership, after: Membership, run: Runner) -> None:
    """Write the state file where it changed."""
    if after != before and not run.dry:
        state.save(after)
