"""Joining a network. Idempotent: whenever it is cut short, run again it is the same one node.

The identity is on disk before the first request, so the controller sees a repeated join as the
same machine. What an earlier, unfinished run left on the machine is removed first, and so is what
a failing run made; the identity stays until the controller refuses it under seal.

A machine that was something in the network before (a node that was deleted, one that shall get a
new identity) stays that, with its kill switch, until the controller has let the new one in.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

from nmk.agent import interface, last_check_in, state
from nmk.agent.api import NodeApi
from nmk.agent.attempts import Attempts
from nmk.agent.claims import left_out
from nmk.agent.desired import Local
from nmk.agent.elsewhere import check_not_elsewhere, check_one_directory
from nmk.agent.exchange import check_in
from nmk.agent.fitness import check_ranges
from nmk.agent.heads import holder_of, interface_for
from nmk.agent.history import Reason
from nmk.agent.lock import PERSON_SECONDS, RETURN_SECONDS, machine_lock
from nmk.agent.membership import Membership, Wishes, take_in
from nmk.agent.own_place import next_order
from nmk.agent.places import find_exposure, state_directory
from nmk.agent.salvage import leftovers
from nmk.agent.settings import local_settings
from nmk.agent.succession import (
    begun_in,
    epitaph,
    name_here,
    not_taken,
    on_disk,
    place_of,
    put_back,
    take_place,
    with_earlier,
)
from nmk.agent.tick import (
    adopt,
    check_in_network,
    collect_facts,
    keep,
    put_others_right,
    seen_by_others,
)
from nmk.core.claims import summarize
from nmk.core.parse import quote
from nmk.core.problems import problem_of
from nmk.core.records import Facts, JoinRequest
from nmk.core.settings import NETWORK_SETTINGS
from nmk.core.tunnel import Tunnel, diff_tunnel
from nmk.errors import (
    EXIT_TEMPORARY,
    AlreadyJoined,
    InterfaceTaken,
    NmkError,
    NodeDeleted,
    NodeUnknown,
    PortTaken,
    StateUnwritable,
)
from nmk.system import filesystem, ports, wireguard
from nmk.system.facts import host_name
from nmk.system.iproute import check_ip
from nmk.system.keys import generate_private_key
from nmk.system.runner import Runner, find_tool
from nmk.wire.envelope import Identity
from nmk.wire.token import Token

MOST_URLS = 16  # of one controller

Say = Callable[[str], None]


def join(
    token: Token,
    wishes: Wishes,
    wished_interface: str | None,
    run: Runner,
    say: Say,
    *,
    called: str | None = None,
    new_identity: bool = False,
    ranges: Collection[str] = (),
) -> Membership:
    """Make this machine a node of the token's network; `say` is told each step.

    `called`: what this machine shall call the network, where that is not what its controller does.
    `new_identity`: what it was in this network before is forgotten once the new node is in, and
    without a word to the controller, where another machine has that identity. What its owner has
    set stays.
    `ranges`: those of the network's ranges that the owner wants, whatever they hold.
    In it already, at this controller: checks in and puts the interface in place once more. A dry
    run asks the controller nothing: it would use up the key.
    """
    find_tool("wg")
    check_ip(run)
    _make_state(run, say)
    with machine_lock(run):
        network = name_here(token, called)
        before = state.find(network)
        if before is None:
            check_not_elsewhere(network)
            check_one_directory()
            for other in state.networks():  # a new one takes no place that one of these has
                state.find(other)
        local = local_settings(network, before)
        wishes = with_earlier(wishes, before, new_identity=new_identity)
        joining = _Joining(network, token, wishes, run, local, say, ranges)
        is_member = before is not None and before.phase == "joined"
        if before and is_member:
            joining.check_same(before)
        name = wished_interface or (before.interface if before else interface_for(network))
        is_renewed = is_member and not new_identity
        old = before if is_renewed else None
        me = joining.renew(old, name) if old else joining.prepare(before, name)
    if is_renewed:
        again = joining.again(me)
        if again is not None:
            return again
        with machine_lock(run):
            before = replace(me, phase="deleted") if run.dry else state.find(network)
            me = joining.prepare(before, name)
    if run.dry:
        joining.show_plan(me)
        return me
    return joining.enter(me, is_new=begun_in(before, token) is None)


def _make_state(run: Runner, say: Say) -> None:
    """The state directory, with a warning where it does not last, or is not safe."""
    directory = state_directory()
    if filesystem.is_volatile(directory):
        say(
            f"warning: {directory} is on a tmpfs, so this machine will have forgotten the network "
            "after a reboot; set NMK_STATE_DIR to a directory that lasts"
        )
    if not run.dry:
        state.make_directory()
    if fault := find_exposure():
        say(f"warning: {directory} is not safe: {fault.reason}; {fault.mend}")


@dataclass(frozen=True, slots=True)
class _Joining:
    """One run of `nmk join`. `network`: its name on this machine."""

    network: str
    token: Token
    wishes: Wishes
    run: Runner
    local: Local
    say: Say
    ranges: Collection[str] = ()

    def check_same(self, before: Membership) -> None:
        """Raises AlreadyJoined where the machine is in another network that it calls so."""
        if place_of(before) == place_of(self.token):
            return
        what = f"this machine is in a network named {quote(before.network)} of another controller"
        if before.controller_key == self.token.controller_key:
            what = f"this machine calls {quote(before.remote_name)} {quote(before.network)}"
        raise AlreadyJoined(
            f"{what}, {before.urls[0]}",
            "nmk join - --as NAME, with another name for this one on this machine",
        )

    def renew(self, before: Membership, interface_name: str) -> Membership:
        """A machine that is in the network already, with what it wishes anew, on disk.

        Raises PortTaken, and nothing is changed then.
        """
        if self.wishes.listen_port != before.wishes.listen_port:
            live = interface.look(before, self.run)
            self._port(0, live.listen_port if live else 0)
        self.say(f"this machine is in {before.network} already, as {_name(before)}")
        for line in not_taken(before, self.wishes, interface_name):
            self.say(f"warning: {line}")
        me = replace(
            before,
            urls=tuple(dict.fromkeys(before.urls + self.token.urls))[:MOST_URLS],
            wishes=replace(before.wishes, **_given(self.wishes)),
        )
        keep(before, me, self.run)
        return me

    def again(self, me: Membership) -> Membership | None:
        """Its check-in; None when its node has been deleted."""
        dry_me = me if self.run.dry else None
        try:
            return check_in_network(self.network, self.run, PERSON_SECONDS, dry_me=dry_me)
        except NodeDeleted:
            self.say("its node was deleted on the controller: joining as a new one")
            return None
        except NodeUnknown:
            self.say("the controller has forgotten its node: joining again")
            return me if self.run.dry else self.enter(me)
        except NmkError as error:
            if error.exit_code != EXIT_TEMPORARY:
                raise
            self.say(f"{error.message}; the mesh works on without the controller")
            return me

    def prepare(self, before: Membership | None, name: str) -> Membership:
        """Identity, keys, interface and port, on disk, beside what the machine was before.

        What an unfinished run made is removed. Raises InterfaceTaken, PortTaken.
        """
        begun = begun_in(before, self.token)
        if begun and begun is before:
            interface.remove(begun, self.run)
        self._check_interface(before, name)
        live = interface.look(before, self.run) if before else None
        me = Membership(
            network=self.network,
            remote_name=self.token.network,
            urls=self.token.urls,
            controller_key=self.token.controller_key,
            identity=begun.identity if begun else Identity.generate(),
            private_key=begun.private_key if begun else generate_private_key(),
            interface=name,
            listen_port=self._port(
                NETWORK_SETTINGS["listen-port"].default, live.listen_port if live else 0
            ),
            wishes=self.wishes,
            order=before.order if before else next_order(self.network, self.run),
            as_read=before.as_read if before else None,
        )
        if not self.run.dry:
            is_first = before is None or begun is before
            try:
                state.save(replace(before, successor=me) if before and not is_first else me)
            except StateUnwritable:
                if before is None:  # a file may be there all the same, of which nobody knows
                    with suppress(NmkError):
                        state.remove(self.network)
                raise
        return me

    def _check_interface(self, before: Membership | None, name: str) -> None:
        """Raises InterfaceTaken where one of that name is not the machine's in this network."""
        if holder := holder_of(name, self.network):
            raise InterfaceTaken(f"the interface {quote(name)} is that of {holder} on this machine")
        if not wireguard.exists(name):
            return
        if before and before.interface == name:
            with suppress(InterfaceTaken):  # it is not even WireGuard's
                if interface.is_ours(before, wireguard.probe(self.run, name)):
                    return
        lost = leftovers(self.run)
        if name in lost.interfaces:
            what = f"there is an interface {quote(name)} of nmk's, and no state of its network"
            raise InterfaceTaken(what, lost.cure)
        raise InterfaceTaken(f"there is an interface {quote(name)}, and nmk did not make it")

    def show_plan(self, me: Membership) -> None:
        """The commands that would run, as far as they are known before the controller answers."""
        mtu = self.local.get("mtu", NETWORK_SETTINGS["mtu"].default)
        want = Tunnel(me.interface, me.private_key, me.listen_port, mtu, (), {})
        interface.execute(self.run, me, want, None, diff_tunnel(want, None, {}), Attempts())
        self.say(
            f"{me.urls[0]} would be asked to let this machine into {me.remote_name}; "
            "addresses and peers come with its answer"
        )

    def enter(self, me: Membership, *, is_new: bool = False) -> Membership:
        """Registered at the controller, in the mesh, and known with all its facts.

        `is_new`: of its identity nobody has heard, so it goes again where nobody can be asked.
        """
        try:
            facts = collect_facts(me, self.local)
        except BaseException:
            if is_new:
                with suppress(NmkError):
                    self._forget(me)
            raise
        try:
            registered = self.register(me, facts)
        except NmkError as error:
            self._note(me, error)
            raise
        with machine_lock(self.run, RETURN_SECONDS):
            now, old = on_disk(me)
            settled = self.settle(adopt(now, me, registered), old)
        if collect_facts(settled, local_settings(self.network, settled)) == settled.reported:
            return settled
        return check_in_network(self.network, self.run, PERSON_SECONDS)

    def register(self, me: Membership, facts: Facts) -> Membership:
        """The membership as the controller knows it now, with its first view. Hold no lock."""
        api = NodeApi(me.urls, me.controller_key, me.identity, me.remote_name, "the join token")
        self.say(f"asking {me.urls[0]} to let this machine into {me.remote_name}")
        answer = api.join(
            JoinRequest(
                identity="",  # travels in the envelope
                key_id=self.token.key_id,
                secret=self.token.secret,
                name=self.wishes.name,
                host_name=host_name(),
                address=self.wishes.address,
                facts=facts,
            )
        )
        error = answer.error
        if error is not None:
            if error.exit_code != EXIT_TEMPORARY:
                self._forget(me)
            raise error
        agreed = me.ranges
        joined = take_in(replace(me, known=None), answer.reply)
        if not agreed:
            check_ranges(joined, self.ranges, self.run)
        self.say(f"{me.remote_name} has it as {_name(joined)}")
        reported = None if answer.reply.head.get("again") is True else facts
        return check_in(replace(joined, reported=reported, urls=api.urls), api, facts)

    def _note(self, me: Membership, error: NmkError) -> None:
        """Why it did not come to its end, for who looks at this machine later."""
        with suppress(NmkError), machine_lock(self.run, RETURN_SECONDS):
            if on_disk(me)[1] is None:
                last_check_in.failed(me.network, problem_of(error))

    def _forget(self, me: Membership) -> None:
        """An identity that was refused, unless another run has been let in with it."""
        with machine_lock(self.run, RETURN_SECONDS):
            now, old = on_disk(me)
            if old:
                state.save(replace(old, successor=None))
            elif now.phase != "joined":
                state.remove(me.network)

    def settle(self, me: Membership, old: Membership | None = None) -> Membership:
        """The interface in place and the state on disk, or neither: then `old` is there again.

        A kill switch stays shut meanwhile.
        """
        first = me.phase != "joined"
        try:
            if old:
                me = take_place(me, old, self.run)
            has_port = self._asked_port() or (old and old.phase == "joined")
            if first and me.known and not has_port:
                me = replace(me, listen_port=self._port(me.known.view.settings["listen-port"]))
            local = local_settings(me.network, me)  # another run may have set some meanwhile
            lan = collect_facts(me, local).lan
            member = replace(me, phase="joined")
            applied = interface.apply(member, self.run, local, lan, Reason("join"))
            applied = last_check_in.worked(applied)
            keep(me, applied, self.run)
        except BaseException:
            if first:
                put_back(me, old, self.run)
            raise
        for line in epitaph(old, applied) if old else ():
            self.say(line)
        if first and seen_by_others(applied) != seen_by_others(old or me):
            put_others_right(me.network, self.run)
        peers = len(applied.known.view.peers) if applied.known else 0
        if not applied.down:
            self.say(f"{me.interface} is up, peers: {peers}")
        for line in (*summarize(left_out(applied)), *(p.message for p in applied.problems)):
            self.say(f"warning: {line}")
        return applied

    def _asked_port(self) -> int | None:
        return self.wishes.listen_port or self.local.get("listen-port")

    def _port(self, first: int, ours: int = 0) -> int:
        """`ours`: the one that the machine's interface in this network has."""
        asked = self._asked_port()
        if asked is None:
            return ours or ports.next_free(first, interface.reserved_ports(self.network))
        if asked != ours and not ports.is_free(asked):
            raise PortTaken(f"UDP port {asked} is in use")
        return asked


def _given(wishes: Wishes) -> dict[str, Any]:
    """What can be wished anew in a network that the machine is in already."""
    pairs = {"endpoint": wishes.endpoint, "listen_port": wishes.listen_port}
    return {name: value for name, value in pairs.items() if value is not None}


def _name(me: Membership) -> str:
    if me.known is None:
        return "a node without a name"
    return f"{me.known.view.name} ({', '.join(me.known.view.addresses)})"
