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

from nmk.core import access_keys, nodes
from nmk.core.endpoints import is_place
from nmk.core.mesh import Mesh
from nmk.core.records import Facts, JoinRequest, Node, Record, node_id
from nmk.core.view import is_known, pack, pack_view, pack_welcome
from nmk.errors import (
    NmkError,
    NodeDeleted,
    NodeUnknown,
    RateLimited,
    StaleSequence,
    TooLarge,
)
from nmk.server.controller import Controller
from nmk.server.limits import DELTA, FULL_VIEW, Allowance, AskAgain, LongReplies, site_of
from nmk.server.log import log_event, log_seldom
from nmk.server.presence import Sighting
from nmk.wire.envelope import (
    MAX_JOIN,
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

STRANGER_RATE, STRANGER_BURST = 5.0, 300.0  # check-ins of unknown identities, of an address
JOIN_RATE, JOIN_BURST = 5.0, 300.0  # new nodes by one access key: a rack may join at once
REPORT_RATE, REPORT_BURST = 1 / 60, 120.0  # commits that one node causes by its reports
_MOST_REPORTERS = 100_000  # nodes; each costs about 200 bytes


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
        clock = controller.clock.monotonic
        self._strangers = Allowance(STRANGER_RATE, STRANGER_BURST, clock)
        self._joins = Allowance(JOIN_RATE, JOIN_BURST, clock)
        self._reports = Allowance(REPORT_RATE, REPORT_BURST, clock, _MOST_REPORTERS)
        self._long = LongReplies(clock)
        self._sightings: dict[str, str] = {}
        self._unchanged: dict[str, tuple[int, bytes]] = {}

    def join(self, body: bytes, remote: str) -> bytes:
        """The reply to a JOIN: the node that it is now, or why not.

        It is opened whoever sends it: that costs less than its HTTP, and only what is in it tells
        a machine with a key from somebody at the same address who has none.
        """
        if len(body) > MAX_JOIN:
            raise TooLarge(f"a JOIN of {len(body)} bytes")
        message = open_sealed_to(self._controller.identity, body)
        header, sealed = parse_request(message, Kind.JOIN)
        keys = controller_keys(self._controller.identity, header.identity)
        plain = open_request(keys, header, sealed)

        def answer() -> bytes:
            request = parse_join(plain, header.identity)
            self._limit_join(header, request)
            stored = self._controller.commit(
                f"node:{request.identity}",
                (header.network,),
                lambda meshes: nodes.join(
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
                self._long.admit(f"join {node.identity}", header.nonce, "", DELTA)
                view = pack_welcome(mesh, node, self._controller.epoch, again=again)
            self._controller.presence.hear(node.identity)
            log, event = (log_seldom, "joined-again") if again else (log_event, "joined")
            log(event, network=mesh.name, node=node.name, remote=remote)
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
                return nodes.leave(mesh, session.identity, seq, self._controller.now())

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
            mesh = self._known_mesh_of(header, identity, remote)
            node = mesh.nodes[identity]
        has_clients = node.gateway.ingress is not None
        controller.presence.hear_check_in(identity, message, has_clients=has_clients)
        if mesh.next_expiry <= controller.now():
            controller.expire_clients(header.network)
        recordable = message.facts is None  # a report has a number, which is taken in once
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
            is_here = at == (controller.epoch, mesh.revision, mesh.commit_id)
            copies = controller.presence.copies(identity, node.facts.interval)
            if is_here and not asks and not copies:
                return self._unchanged_reply(mesh, node, at)
            if recordable and not is_here:
                cost = DELTA if is_known(mesh, controller.epoch, at) else FULL_VIEW
                self._long.admit(identity, header.nonce, message.cookie, cost)
            more: dict[str, object] = {"report": True} if asks else {}
            if copies:
                more["copies"] = copies
            return pack_view(mesh, mesh.nodes[identity], controller.epoch, at, **more)

    def _limit_join(self, header: Header, request: JoinRequest) -> None:
        """Charge an access key for a new node. Raises RateLimited.

        Whoever has no right key is refused and charged nothing, as nothing is stored for it.
        """
        with self._controller.lock:
            mesh = self._controller.meshes.get(header.network)
            is_new = mesh is not None and request.identity not in mesh.nodes
            opens = mesh is not None and access_keys.opens(mesh, request)
        if is_new and opens and not self._joins.take(f"{header.network} {request.key_id}"):
            log_seldom("joins-held-back", network=header.network, key=request.key_id)
            raise RateLimited("the access key lets in no more machines for the moment")

    def _take_report(self, header: Header, node: Node, seq: int, facts: Facts, remote: str) -> None:
        """Store a report and where it came from: a number makes it fresh, so both are true.

        One that was sent before is refused for that, and charged to nobody.
        """
        if seq > node.seq and not self._reports.take(node.identity):
            log_seldom("reports-held-back", network=header.network, node=node.name)
            raise RateLimited(f"{node.name} reports more changes than are taken in")
        self._controller.commit(
            f"node:{node.identity}",
            (header.network,),
            lambda _: nodes.report(
                self._mesh_of(header, node.identity),
                node.identity,
                seq,
                facts,
                _observe(self._node(header, node.identity).observed, remote),
            ),
        )
        is_other = facts.instance != node.facts.instance
        if is_other and facts.protocol == node.facts.protocol:  # else it is told otherwise
            self._controller.presence.hear_instance(
                node.identity,
                Sighting(node.facts.instance, next(iter(node.observed), "")),
                Sighting(facts.instance, remote),
            )

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
        except AskAgain as error:
            log_seldom("views-held-back", network=header.network, node=_id_of(header))
            body = encode_error(error, cookie=error.cookie)
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
            deleted = mesh is not None and identity in mesh.deleted  # it has to hear of that
        if not known and not deleted:
            if not self._strangers.take(site_of(remote)):
                log_seldom("strangers-held-back", remote=remote)
                raise RateLimited(f"too many requests of unknown machines from {remote}")
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
        self._sightings.pop(identity, None)
        if mesh is not None and identity in mesh.deleted:
            raise NodeDeleted("this machine's node was deleted on the controller")
        raise NodeUnknown(f"the controller knows no such node in {header.network}")

    def _known_mesh_of(self, header: Header, identity: str, remote: str) -> Mesh:
        """The same; a machine that thinks it is a node of a network of ours is remembered."""
        try:
            return self._mesh_of(header, identity)
        except NodeUnknown:
            if header.network in self._controller.meshes:
                self._controller.presence.hear_stranger(header.network, identity, remote)
                log_seldom(
                    "unknown-node", network=header.network, id=node_id(identity), remote=remote
                )
            raise

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


def _id_of(header: Header) -> str:
    return node_id(base64.b64encode(header.identity).decode())


def _observe(before: tuple[str, ...], remote: str) -> tuple[str, ...]:
    """The addresses with the one just seen in its family's place, if it leads anywhere."""
    seen = ip_address(remote)
    if not is_place(seen):
        return before
    others = [a for a in before if ip_address(a).version != seen.version]
    return tuple(sorted([*others, str(seen)], key=lambda a: ":" in a))
