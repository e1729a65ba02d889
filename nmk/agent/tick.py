"""One check-in: facts -> check-in -> desired -> probe -> diff -> plan -> execute.

Whole desired state in, repeat-safe: a tick that finds nothing changed runs no command that
changes anything and writes no file.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace

from nmk.agent import interface, liveness, stamp, state, surroundings
from nmk.agent.api import Answer, NodeApi
from nmk.agent.desired import Local, desired_when_down, listen_port
from nmk.agent.history import Reason
from nmk.agent.lock import locked
from nmk.agent.membership import Membership, take_in
from nmk.agent.places import state_directory
from nmk.agent.settings import local_settings, route_wishes
from nmk.core.gateways import SERVES
from nmk.core.records import PROTOCOL, Facts
from nmk.core.settings import NETWORK_SETTINGS
from nmk.core.surroundings import forwarding_of
from nmk.errors import BadView, NmkError, NodeDeleted, NotJoined, StaleSequence
from nmk.system import sysctl, wireguard
from nmk.system.facts import machine_instance, own_addresses
from nmk.system.keys import public_key
from nmk.system.runner import Runner, has_tool
from nmk.wire.envelope import NO_EPOCH
from nmk.wire.messages import CheckIn


@dataclass(frozen=True, slots=True)
class Told:
    """What a check-in tells besides facts, as in `wire.messages`."""

    traffic: str = ""
    callers: str = ""
    serves: str = ""


NOTHING_TOLD = Told()


def check_in_network(network: str, run: Runner) -> Membership:
    """One tick of a network that this machine is in, under the lock.

    Raises Locked, NotJoined, and whatever `tick` does.
    """
    with locked(state_directory()):
        me = state.load(network)
        if me.phase == "joining":
            raise NotJoined(f"joining {network} did not come to its end", "nmk join -")
        if me.phase == "deleted":
            keep(me, interface.remove(me, run, keep=desired_when_down(me)), run)
            raise NodeDeleted(
                f"this machine's node in {network} was deleted on the controller",
                f"nmk leave -n {network}, then join again with a new token",
            )
        after = tick(me, api_of(me), run, local_settings(network, me))
        if not run.dry:
            stamp.renew(network)
        return after


def watch_gateways(network: str, run: Runner) -> bool:
    """Look whether the gateways that it matters of are up, and follow.

    Whether there is anything to watch. Needs no controller.
    """
    with locked(state_directory()):
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
        return True


def restore_network(network: str, run: Runner) -> None:
    """After a reboot: what is on disk is put in place, before any controller is asked."""
    with locked(state_directory()):
        me = state.load(network)
        local = local_settings(network, me)
        if me.phase == "joined":
            keep(me, restore(me, run, local, collect_facts(me, local)), run)


def restore(me: Membership, run: Runner, local: Local, facts: Facts) -> Membership:
    """Make the interface from the view on disk, if there is none."""
    if run.dry or me.down or wireguard.exists(me.interface):
        return me
    return interface.apply(me, run, local, facts.lan, Reason("restore"))


def api_of(me: Membership) -> NodeApi:
    """The membership's controller."""
    source = str(state.file_of(me.network))
    return NodeApi(me.urls, me.controller_key, me.identity, me.remote_name, source)


def tick(me: Membership, api: NodeApi, run: Runner, local: Local) -> Membership:
    """One check-in, and what follows from it on this machine.

    What is on disk is put in place first (after a reboot nothing is up), and once more where the
    check-in fails. NodeDeleted, which only ever comes under seal, takes the interface down for
    good.
    """
    facts = collect_facts(me, local)
    up = restore(me, run, local, facts)
    facts = replace(facts, listen_port=listen_port(up, local))
    dump = interface.look(up, run)
    news = liveness.look(up, dump)
    now = time.time()
    told = Told(interface.traffic(up, dump, now), interface.callers(up, dump, now), serves(up))
    before = up.known.view if up.known else None
    try:
        after = check_in(up, api, facts, told, dry=run.dry)
    except NodeDeleted:
        gone = replace(up, phase="deleted")
        keep(me, gone, run)
        kept = desired_when_down(gone)
        keep(gone, interface.remove(gone, run, Reason("deleted"), kept), run)
        raise
    except NmkError:
        reason = Reason("failed-check-in", before, news)
        keep(me, interface.apply(up, run, local, facts.lan, reason, dump), run)
        raise
    keep(me, after, run)
    applied = interface.apply(after, run, local, facts.lan, Reason("check-in", before, news), dump)
    keep(after, applied, run)
    return applied


def collect_facts(me: Membership, local: Local) -> Facts:
    """What the controller should know of this machine."""
    settings = {**(me.known.view.settings if me.known else {}), **local}
    return Facts(
        wg_key=public_key(me.private_key),
        listen_port=listen_port(me, local),
        lan=own_addresses(leave_out=[me.interface]),
        interval=settings.get("interval", NETWORK_SETTINGS["interval"].default),
        endpoint=me.wishes.endpoint,
        instance=machine_instance(),
        protocol=PROTOCOL,
    )


def check_in(
    me: Membership, api: NodeApi, facts: Facts, told: Told = NOTHING_TOLD, *, dry: bool = False
) -> Membership:
    """The membership after one check-in, which reports the facts where they are news.

    The controller may have taken in other reports than we know of, because its disk or ours was
    rolled back; then ours is repeated, with the number after its last. `dry` reports nothing.
    """
    if dry:
        facts, told = me.reported or facts, NOTHING_TOLD
    news = facts != me.reported
    answer = _ask(me, api, facts if news else None, told)
    if isinstance(answer.error, StaleSequence):
        me = replace(me, seq=answer.stored_seq)
        answer = _ask(me, api, facts, told)
    after = _take_in(me, api, answer, told)
    asked = answer.reply.head.get("report") is True
    if (asked or after.seq != me.seq) and not news and not dry:
        after = _take_in(after, api, _ask(after, api, facts, told), told)
    return replace(after, reported=facts, urls=api.urls)


def serves(me: Membership) -> str:
    """What a gateway says of its roles, as in `core.gateways`; "" before it plays them."""
    if me.known is None or not me.known.view.gateway.roles:
        return ""
    if not route_wishes(me).roles:
        return "accept-roles"
    if not has_tool("nft"):
        return "nft"
    if not all(map(wireguard.exists, me.known.view.gateway.interfaces)):
        return "interface"
    if not surroundings.is_settled(me):
        return ""
    forwards = all(sysctl.read(path) == "1" for path in forwarding_of(me.known.view))
    return SERVES if forwards else "forwarding"


def keep(before: Membership, after: Membership, run: Runner) -> None:
    """Write the state file where it changed."""
    if after != before and not run.dry:
        state.save(after)


def _ask(me: Membership, api: NodeApi, facts: Facts | None, told: Told) -> Answer:
    known = me.known
    return api.check_in(
        known.epoch if known else NO_EPOCH,
        CheckIn(
            revision=known.revision if known else 0,
            commit_id=known.commit_id if known else "",
            seq=me.seq + 1,
            facts=facts,
            traffic=told.traffic,
            callers=told.callers,
            serves=told.serves,
        ),
    )


def _take_in(me: Membership, api: NodeApi, answer: Answer, told: Told) -> Membership:
    """The membership with the answer; a delta that does not fit is replaced by a full view."""
    reply = answer.result()
    try:
        return take_in(me, reply)
    except BadView:
        if reply.head.get("full") is True:
            raise
        return take_in(me, _ask(replace(me, known=None), api, None, told).result())
