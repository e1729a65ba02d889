"""The use cases of the admin: ext clients. No private key ever comes here."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict
from typing import cast

from nmk.core import ext_clients, hubs
from nmk.core.ext_clients import NewClient
from nmk.core.hubs import HubPeer
from nmk.core.mesh import Mesh
from nmk.core.nodes import find_node
from nmk.core.parse import parse_duration, quote
from nmk.core.records import ExtClient, Record
from nmk.core.traffic import Caller, parse_callers
from nmk.errors import BadInput
from nmk.server.controller import Controller
from nmk.server.edits import (
    Edit,
    Json,
    commit_and_look,
    commit_to,
    flag_of,
    list_of,
    log_edit,
    optional_of,
    text_of,
    texts_of,
)
from nmk.server.log import iso_time

_ID_BYTES = 8
MOST_REASONS = 8  # that a list has of why a client's config does not fit
_MAY_BE_EMPTY = ("expires", "routes")
Callers = dict[str, tuple[int, Caller]]  # by the clients' ids, with the seconds since it was told


class ExtClients:
    """The admin API's side of ext clients."""

    def __init__(self, controller: Controller) -> None:
        self._controller = controller

    def list_clients(self, network: str) -> list[Json]:
        """A network's ext clients, by name."""
        with self._controller.lock:
            mesh = self._controller.mesh(network).tried(())  # nobody waits for what follows
        callers = {g: self._callers(g) for g in {c.gateway for c in mesh.clients.values()}}
        clients = sorted(mesh.clients.values(), key=lambda c: c.name)
        shown = [self._client_json(mesh, c, callers[c.gateway]) for c in clients]
        return [one | {"stale": _first(one["stale"])} for one in shown]

    def show_client(self, network: str, name: str) -> Json:
        """One ext client."""
        with self._controller.lock:
            mesh = self._controller.mesh(network)
            return self._shown(mesh, ext_clients.find_client(mesh, name))

    def create_client(self, edit: Edit, network: str, body: Json) -> Json:
        """A new ext client, and what its config says but for the private key."""
        new = NewClient(
            id=secrets.token_hex(_ID_BYTES),
            name=text_of(body, "name"),
            public_key=text_of(body, "public_key"),
            gateway=optional_of(body, "gateway"),
            address=optional_of(body, "address"),
            routes=optional_of(body, "routes", empty=True) or "",
            full_tunnel=flag_of(body, "full_tunnel"),
            expires_at=self._expiry(body.get("expires", "never")),
        )
        return self._issue(
            edit,
            network,
            lambda mesh: ext_clients.create_client(mesh, new, self._controller.now()),
            "extclient-created",
        )

    def rotate_client(self, edit: Edit, network: str, name: str, body: Json) -> Json:
        """Another key, and a config that fits."""
        key = text_of(body, "public_key")
        return self._issue(
            edit,
            network,
            lambda mesh: ext_clients.rotate_client(mesh, name, key, edit.revision),
            "extclient-rotated",
        )

    def set_client(self, edit: Edit, network: str, name: str, body: Json) -> Json:
        """Change what an admin decides of an ext client."""
        changes = {key: text_of(body, key, empty=key in _MAY_BE_EMPTY) for key in body}
        expires_at = self._expiry(changes["expires"]) if "expires" in changes else None
        return self._change(
            edit,
            network,
            lambda mesh: ext_clients.set_client(mesh, name, changes, expires_at, edit.revision),
            "extclient-set",
        )

    def switch_client(self, edit: Edit, network: str, name: str, *, enabled: bool) -> Json:
        """Let an ext client in, or keep it out."""

        def decide(mesh: Mesh) -> ExtClient:
            now = self._controller.now()
            return ext_clients.switch_client(mesh, name, now, edit.revision, enabled=enabled)

        return self._change(
            edit, network, decide, "extclient-enabled" if enabled else "extclient-disabled"
        )

    def delete_client(self, edit: Edit, network: str, name: str) -> None:
        """Delete an ext client, for good."""
        now = self._controller.now()
        commit_to(
            self._controller,
            edit,
            network,
            lambda mesh: [ext_clients.delete_client(mesh, name, edit.revision, now)],
        )
        log_edit("extclient-deleted", edit, network=network, extclient=name)

    def take_over_hub(self, edit: Edit, network: str, body: Json) -> Json:
        """Make a node the ingress gateway that a hub was, with the hub's clients."""
        node, hub_key = text_of(body, "node"), text_of(body, "public_key")
        addresses, peers = texts_of(body, "addresses"), list_of(body, "clients")
        wanted = [_hub_peer(peer) for peer in peers]

        def decide(mesh: Mesh) -> list[Record]:
            lets_out, now = flag_of(body, "lets_out"), self._controller.now()
            return hubs.take_over_hub(
                mesh, node, hub_key, addresses, wanted, now, lets_out=lets_out
            )

        def look(mesh: Mesh, stored: list[Record]) -> Json:
            clients = [record for record in stored if isinstance(record, ExtClient)]
            return {
                "node": node,
                "roles": list(find_node(mesh, node).gateway.roles),
                "clients": [self._client_json(mesh, client, {}) for client in clients],
                "known": len(wanted) - len(clients),
                "left": _left_routes(mesh, clients, wanted),
                "revision": mesh.revision,
            }

        made = commit_and_look(self._controller, edit, network, decide, look)
        count = len(made["clients"])
        log_edit("hub-taken-over", edit, network=network, node=node, extclients=count)
        return made

    def _change(
        self, edit: Edit, network: str, decide: Callable[[Mesh], ExtClient], event: str
    ) -> Json:
        _, shown = self._commit(edit, network, decide, event)
        return shown

    def _issue(
        self, edit: Edit, network: str, decide: Callable[[Mesh], ExtClient], event: str
    ) -> Json:
        """As `_change`, with the config."""
        client, shown = self._commit(edit, network, decide, event)
        return {**shown, "config": asdict(client.issue)}

    def _commit(
        self, edit: Edit, network: str, decide: Callable[[Mesh], ExtClient], event: str
    ) -> tuple[ExtClient, Json]:
        def look(mesh: Mesh, stored: list[Record]) -> tuple[ExtClient, Json]:
            client = cast(ExtClient, stored[0])
            return client, self._shown(mesh, client)

        client, shown = commit_and_look(
            self._controller, edit, network, lambda mesh: [decide(mesh)], look
        )
        log_edit(event, edit, network=network, extclient=client.name)
        return client, shown

    def _expiry(self, text: object) -> int | None:
        lasts = parse_duration(text_of({"expires": text}, "expires", empty=True))
        return None if lasts is None else self._controller.now() + lasts

    def _shown(self, mesh: Mesh, client: ExtClient) -> Json:
        return self._client_json(mesh, client, self._callers(client.gateway))

    def _callers(self, gateway: str) -> Callers:
        """What a gateway said last of who calls it: of its own clients, nobody else is believed."""
        since, text = self._controller.presence.callers(gateway) or (0, "")
        with suppress(BadInput):
            return {i: (since, caller) for i, caller in parse_callers(text).items()}
        return {}

    def _client_json(self, mesh: Mesh, client: ExtClient, callers: Callers) -> Json:
        gateway = mesh.nodes.get(client.gateway)
        since, caller = callers.get(client.id, (0, None))
        age = caller.counters.handshake if caller else None
        return {
            "name": client.name,
            "id": client.id,
            "network": client.network,
            "gateway": gateway.name if gateway else None,
            "addresses": list(client.addresses),
            "routes": list(client.routes),
            "public_key": client.public_key,
            "full_tunnel": client.full_tunnel,
            "state": self._state(client),
            "expires_at": iso_time(client.expires_at),
            "handshake": None if age is None else age + since,
            "endpoint": caller.endpoint if caller else None,
            "received": caller.counters.received if caller else None,
            "sent": caller.counters.sent if caller else None,
            "stale": ext_clients.staleness(mesh, client),
            "created_at": iso_time(client.created_at),
            "revision": client.revision,
        }

    def _state(self, client: ExtClient) -> str:
        """The stored state, or expired where nobody has looked since it did."""
        over = client.expires_at is not None and client.expires_at <= self._controller.now()
        return "expired" if over and client.state == "enabled" else client.state


def _first(reasons: list[str]) -> list[str]:
    """As many reasons as a list has room for, and how many more there are."""
    more = len(reasons) - MOST_REASONS
    return [*reasons[:MOST_REASONS], f"and {more} more"] if more > 0 else reasons


def _left_routes(mesh: Mesh, new: list[ExtClient], wanted: list[HubPeer]) -> list[Json]:
    """The ranges behind clients of a hub that are not led to them."""
    have = {**mesh.client_by_key, **{client.public_key: client for client in new}}
    return [
        {"name": have[peer.public_key].name, "range": cidr}
        for peer in wanted
        for cidr in peer.routes
        if cidr not in have[peer.public_key].routes
    ]


def _hub_peer(peer: object) -> HubPeer:
    if not isinstance(peer, dict):
        raise BadInput(f"{quote(peer)} is no client of a hub", "give clients as objects")
    return HubPeer(
        id=secrets.token_hex(_ID_BYTES),
        name=text_of(peer, "name"),
        public_key=text_of(peer, "public_key"),
        addresses=tuple(texts_of(peer, "addresses")),
        routes=tuple(texts_of(peer, "routes")),
    )
