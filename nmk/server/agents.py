"""The use cases of agents: join, check in, leave. Sealed bytes in, sealed bytes out.

What cannot be opened raises and is answered in clear; whatever goes wrong after that is answered
under seal, so that an agent can believe it.
"""

from __future__ import annotations

import base64
from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import ip_address
from typing import cast

from nmk.core import decisions
from nmk.core.mesh import Mesh
from nmk.core.records import Facts, Node, Record
from nmk.core.view import pack, pack_view, pack_welcome
from nmk.errors import NmkError, NodeDeleted, NodeUnknown, StaleSequence
from nmk.server.controller import Controller
from nmk.server.limits import RateLimit
from nmk.server.log import log_event
from nmk.wire.envelope import (
    REPLY_TO,
    Header,
    Kind,
    SessionKeys,
    controller_keys,
    open_request,
    open_sealed_to,
    parse_request,
    seal_reply,
)
from nmk.wire.messages import encode_error, parse_check_in, parse_join, parse_leave

STRANGER_RATE = 5.0  # requests a second and address, in the long run
STRANGER_BURST = 300.0  # a rack of machines behind one address may join at once


@dataclass(frozen=True, slots=True)
class _Session:
    """What is kept of an agent between requests: making the keys costs ten times using them."""

    keys: SessionKeys
    identity: str


class Agents:
    """The node API's side of the controller."""

    def __init__(self, controller: Controller) -> None:
        self._controller = controller
        self._sessions: dict[bytes, _Session] = {}
        self._strangers = RateLimit(STRANGER_RATE, STRANGER_BURST, controller.clock.monotonic)
        self._sightings: dict[str, str] = {}
        self._unchanged: dict[str, tuple[int, bytes]] = {}

    def join(self, body: bytes, remote: str) -> bytes:
        """The reply to a JOIN: the node that it is now, or why not."""
        self._strangers.spend(remote)
        message = open_sealed_to(self._controller.identity, body)
        header, sealed = parse_request(message, Kind.JOIN)
        keys = controller_keys(self._controller.identity, header.identity)
        plain = open_request(keys, header, sealed)

        def answer() -> bytes:
            request = parse_join(plain, header.identity)
            stored = self._controller.commit(
                f"node:{request.identity}",
                (header.network,),
                lambda meshes: decisions.join(
                    meshes.get(header.network) or Mesh(header.network),
                    request,
                    _observe((), remote),
                    self._controller.now(),
                ),
            )
            with self._controller.lock:
                mesh = self._mesh_of(header, request.identity)
                node = mesh.nodes[request.identity]
                again = not stored  # what it says of itself now has to come as a report
                view = pack_welcome(mesh, node, self._controller.epoch, again=again)
            self._controller.presence.hear(node.identity)
            log_event("joined", network=mesh.name, node=node.name, remote=remote, again=again)
            return view

        return self._reply(keys, header, answer)

    def check_in(self, body: bytes, remote: str) -> bytes:
        """The reply to a CHECK_IN: what the agent does not know yet."""
        header, sealed = parse_request(body, Kind.CHECK_IN)
        session = self._session(header, remote)
        plain = open_request(session.keys, header, sealed)
        return self._reply(
            session.keys, header, lambda: self._check_in(header, session.identity, plain, remote)
        )

    def leave(self, body: bytes, remote: str) -> bytes:
        """The reply to a LEAVE: the node is gone."""
        header, sealed = parse_request(body, Kind.LEAVE)
        session = self._session(header, remote)
        plain = open_request(session.keys, header, sealed)

        def answer() -> bytes:
            seq = parse_leave(plain)

            def decide(_: object) -> list[Record]:
                mesh = self._mesh_of(header, session.identity)
                return decisions.leave(mesh, session.identity, seq, self._controller.now())

            actor = f"node:{session.identity}"
            [node] = self._controller.commit(actor, (header.network,), decide)
            name = cast(Node, node).name
            log_event("left", network=header.network, node=name, remote=remote)
            return pack(b"{}")

        return self._reply(session.keys, header, answer)

    def _check_in(self, header: Header, identity: str, plain: bytes, remote: str) -> bytes:
        message = parse_check_in(plain)
        controller = self._controller
        with controller.lock:
            mesh = self._mesh_of(header, identity)
            node = mesh.nodes[identity]
        callers = message.callers if node.gateway.ingress else ""
        controller.presence.hear(identity, message.traffic, callers, message.serves)
        if mesh.next_expiry <= controller.now():
            controller.expire_clients(header.network)
        if message.facts is not None:
            self._take_report(header, node, message.seq, message.facts, remote)
        asks = message.facts is None and self._is_elsewhere(node, remote)
        at = (header.epoch.hex(), message.revision, message.commit_id)
        with controller.lock:
            mesh = self._mesh_of(header, identity)
            is_behind = at[0] == controller.epoch and mesh.revision < message.revision
        if is_behind:
            controller.catch_up()  # another replica has told the agent more than we know
        with controller.lock:
            mesh = self._mesh_of(header, identity)
            if asks:
                return pack_view(mesh, mesh.nodes[identity], controller.epoch, at, report=True)
            if at == (controller.epoch, mesh.revision, mesh.commit_id):
                return self._unchanged_reply(mesh, node, at)
            return pack_view(mesh, mesh.nodes[identity], controller.epoch, at)

    def _take_report(self, header: Header, node: Node, seq: int, facts: Facts, remote: str) -> None:
        """Store a report and where it came from: a number makes it fresh, so both are true."""
        self._controller.commit(
            f"node:{node.identity}",
            (header.network,),
            lambda _: decisions.report(
                self._mesh_of(header, node.identity),
                node.identity,
                seq,
                facts,
                _observe(self._node(header, node.identity).observed, remote),
            ),
        )
        if facts.instance != node.facts.instance:
            presence = self._controller.presence
            presence.hear_instance(node.identity, node.facts.instance, facts.instance)

    def _unchanged_reply(self, mesh: Mesh, node: Node, at: tuple[str, int, str]) -> bytes:
        """The same bytes for all who are up to date: packed once a revision."""
        revision, packed = self._unchanged.get(mesh.name, (-1, b""))
        if revision != mesh.revision:
            packed = pack_view(mesh, node, self._controller.epoch, at)
            self._unchanged[mesh.name] = (mesh.revision, packed)
        return packed

    def _reply(self, keys: SessionKeys, header: Header, answer: Callable[[], bytes]) -> bytes:
        try:
            return seal_reply(keys, REPLY_TO[header.kind], header, answer())
        except StaleSequence as error:
            body = encode_error(error, seq=error.stored)
        except NmkError as error:
            body = encode_error(error)
        return seal_reply(keys, Kind.ERROR, header, pack(body))

    def _session(self, header: Header, remote: str) -> _Session:
        """The keys for a known identity, kept; for a stranger made anew, at a bounded rate."""
        session = self._sessions.get(header.identity)
        if session is not None:
            return session
        identity = base64.b64encode(header.identity).decode()
        with self._controller.lock:
            mesh = self._controller.meshes.get(header.network)
            known = mesh is not None and identity in mesh.nodes
        if not known:
            self._strangers.spend(remote)
            self._controller.catch_up()  # it may have joined at another replica
        session = _Session(controller_keys(self._controller.identity, header.identity), identity)
        if known:
            self._sessions[header.identity] = session
        return session

    def _mesh_of(self, header: Header, identity: str) -> Mesh:
        """The mesh that the identity is a node of. Raises NodeDeleted, NodeUnknown."""
        mesh = self._controller.meshes.get(header.network)
        if mesh is not None and identity in mesh.nodes:
            return mesh
        self._sessions.pop(header.identity, None)
        if mesh is not None and identity in mesh.deleted:
            raise NodeDeleted("this machine's node was deleted on the controller")
        raise NodeUnknown(f"the controller knows no such node in {header.network}")

    def _node(self, header: Header, identity: str) -> Node:
        return self._mesh_of(header, identity).nodes[identity]

    def _is_elsewhere(self, node: Node, remote: str) -> bool:
        """Whether the node now comes from an address that we do not know, twice in a row.

        Such a check-in may be a recording that anybody sends from anywhere, so all that follows
        from it is that the agent is asked for a report.
        """
        if remote in node.observed or _observe(node.observed, remote) == node.observed:
            self._sightings.pop(node.identity, None)
            return False
        before, self._sightings[node.identity] = self._sightings.get(node.identity), remote
        return before == remote


def _observe(before: tuple[str, ...], remote: str) -> tuple[str, ...]:
    """The addresses with the one just seen in its family's place, if it leads anywhere."""
    seen = ip_address(remote)
    if seen.is_loopback or seen.is_link_local:
        return before
    others = [a for a in before if ip_address(a).version != seen.version]
    return tuple(sorted([*others, str(seen)], key=lambda a: ":" in a))
