"""The use cases of the admin: networks, access keys, nodes. JSON-ready values out."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping
from math import ceil
from typing import cast
from urllib.parse import urlsplit

from nmk import __version__
from nmk.archive import pasted_line
from nmk.core import access_keys, networks, nodes
from nmk.core.mesh import Mesh
from nmk.core.parse import parse_duration, parse_int
from nmk.core.records import AccessKey, Network, Node, Record, hash_secret
from nmk.core.settings import effective
from nmk.server.controller import EVERYWHERE, Controller, Decide
from nmk.server.edits import (
    Edit,
    Json,
    commit_and_look,
    commit_to,
    list_of,
    log_edit,
    map_of,
    text_of,
)
from nmk.server.health import LISTED, check_in_json
from nmk.server.log import iso_time
from nmk.server.presence import LATE_INTERVALS, Stranger
from nmk.server.traffic import traffic_json
from nmk.wire.token import Token, encode_token

_DEFAULT_EXPIRY = "24h"
_MOST_USES = 1_000_000
CURES = {
    "lost": "on the machine: nmk status; if it is gone for good: nmk node delete",
    "doubled": (
        "two machines have this identity; on the one that is the copy, and not on the other: "
        "nmk join - --new-identity"
    ),
}


class Admin:
    """The admin API's side of the controller.

    `urls` gives the node API's URLs as machines elsewhere reach it; `script_sha256` the checksum
    of the install script, None where there is nothing to install from here.
    """

    def __init__(
        self,
        controller: Controller,
        urls: Callable[[], tuple[str, ...]],
        script_sha256: str | None,
    ) -> None:
        self._controller = controller
        self._urls = urls
        self._script_sha256 = script_sha256

    def status(self) -> Json:
        """What this controller is and has."""
        with self._controller.lock:
            live = [m for m in self._controller.meshes.values() if _is_live(m.network)]
            return {
                "version": __version__,
                "epoch": self._controller.epoch,
                "urls": list(self._urls()),
                "networks": len(live),
                "nodes": sum(len(m.nodes) for m in live),
            }

    def create_network(self, edit: Edit, body: Json) -> Json:
        """A new network; `cidrs` may be left out."""
        name = text_of(body, "name")
        cidrs = [text_of({"range": c}, "range") for c in list_of(body, "cidrs")]
        settings = map_of(body, "settings")
        random = secrets.token_bytes(16)

        def decide(meshes: Mapping[str, Mesh]) -> list[Record]:
            now = self._controller.now()
            hosts = [urlsplit(url).hostname or "" for url in self._urls()]
            return [networks.create_network(meshes, name, cidrs, settings, random, now, hosts)]

        [network] = self._commit(edit, (EVERYWHERE, name), decide)
        log_edit("network-created", edit, network=name)
        return _network_json(cast(Network, network), 0)

    def list_networks(self) -> list[Json]:
        """All live networks, by name."""
        with self._controller.lock:
            live = [m for m in self._controller.meshes.values() if _is_live(m.network)]
            meshes = sorted(live, key=lambda m: m.name)
            return [_network_json(networks.live_network(m), len(m.nodes)) for m in meshes]

    def show_network(self, name: str) -> Json:
        """One network."""
        with self._controller.lock:
            mesh = self._controller.mesh(name)
            network, nodes = networks.live_network(mesh), len(mesh.nodes)
            strangers = self._controller.presence.strangers(name, mesh.nodes)
        return _network_json(network, nodes) | {
            "unknown_nodes": list(map(_stranger_json, strangers))
        }

    def set_network(self, edit: Edit, name: str, body: Json) -> Json:
        """Change settings of a network."""
        settings = map_of(body, "settings")
        shown = commit_and_look(
            self._controller,
            edit,
            name,
            lambda mesh: [networks.set_network(mesh, settings, edit.revision)],
            lambda mesh, stored: _network_json(cast(Network, stored[0]), len(mesh.nodes)),
        )
        log_edit("network-set", edit, network=name, **settings)
        return shown

    def delete_network(self, edit: Edit, name: str) -> None:
        """Delete a network with its nodes and keys."""

        def decide(_: object) -> list[Record]:
            mesh = self._controller.mesh(name)
            return networks.delete_network(mesh, edit.revision, self._controller.now())

        self._commit(edit, (EVERYWHERE, name), decide)
        log_edit("network-deleted", edit, network=name)

    def create_key(self, edit: Edit, network: str, body: Json) -> Json:
        """A new access key. Its token is in this answer and nowhere else, ever."""
        uses_max = None
        if body.get("uses", 1) is not None:
            uses_max = parse_int(body.get("uses", 1), 1, _MOST_USES, "number of uses")
        lasts = parse_duration(text_of({"expires": _DEFAULT_EXPIRY} | body, "expires"))
        secret = secrets.token_bytes(32)
        now = self._controller.now()
        wanted = AccessKey(
            id=secrets.token_hex(8),
            network=network,
            secret_hash=hash_secret(secret),
            uses_max=uses_max,
            expires_at=None if lasts is None else now + lasts,
            created_at=now,
        )
        [key] = self._commit_to(edit, network, lambda _: [wanted])
        log_edit("key-created", edit, network=network, key=wanted.id)
        shown = self._key_json(cast(AccessKey, key), [])
        if edit.dry_run:
            return shown
        urls = self._urls()
        token = encode_token(
            Token(urls, self._controller.identity.public, network, wanted.id, secret)
        )
        install = pasted_line(urls[0], self._script_sha256, token) if self._script_sha256 else None
        return {**shown, "token": token, "urls": list(urls), "install": install}

    def list_keys(self, network: str, *, revoked: bool) -> list[Json]:
        """A network's access keys, the newest last, with those that were revoked or without."""
        with self._controller.lock:
            mesh = self._controller.mesh(network)
            keys = sorted(mesh.keys.values(), key=lambda k: k.created_at)
            used_by: dict[str, list[str]] = {}
            for node in mesh.nodes.values():
                used_by.setdefault(node.key_id, []).append(node.name)
        shown = [k for k in keys if revoked or k.deleted_at is None]
        return [self._key_json(k, used_by.get(k.id, [])) for k in shown]

    def show_key(self, network: str, key_id: str) -> Json:
        """One key, also where it was revoked."""
        with self._controller.lock:
            mesh = self._controller.mesh(network)
            key = access_keys.find_key(mesh, key_id, revoked=True)
            return self._key_json(key, [n.name for n in mesh.nodes.values() if n.key_id == key_id])

    def delete_key(self, edit: Edit, network: str, key_id: str) -> None:
        """Revoke a key; the nodes that it let in stay."""
        now = self._controller.now()
        self._commit_to(
            edit, network, lambda m: [access_keys.delete_key(m, key_id, edit.revision, now)]
        )
        log_edit("key-revoked", edit, network=network, key=key_id)

    def list_nodes(self, network: str) -> list[Json]:
        """A network's nodes, by name, with the LAN addresses that peers are told of."""
        with self._controller.lock:
            mesh = self._controller.mesh(network)
            nodes, newest = [mesh.told(n) for n in mesh.nodes.values()], mesh.revision
        return [self._node_json(n, newest, LISTED) for n in sorted(nodes, key=lambda n: n.name)]

    def show_node(self, network: str, name: str) -> Json:
        """One node, with what it said of its traffic last."""
        with self._controller.lock:
            mesh = self._controller.mesh(network)
            node, newest = nodes.find_node(mesh, name), mesh.revision
            names = {n.id: n.name for n in mesh.nodes.values()}
            names |= {c.id: c.name for c in mesh.clients.values()}
        told = self._controller.presence.traffic(node.identity)
        return self._node_json(node, newest) | {"traffic": traffic_json(told, names)}

    def set_node(self, edit: Edit, network: str, name: str, body: Json) -> Json:
        """Change what an admin decides of a node."""
        changes = {k: text_of(body, k, empty=True) for k in body}
        shown = commit_and_look(
            self._controller,
            edit,
            network,
            lambda mesh: [nodes.set_node(mesh, name, changes, edit.revision)],
            lambda mesh, stored: self._node_json(cast(Node, stored[0]), mesh.revision),
        )
        log_edit("node-set", edit, network=network, node=name, **changes)
        return shown

    def delete_node(self, edit: Edit, network: str, name: str) -> None:
        """Delete a node, for good: its identity is refused from now on."""
        now = self._controller.now()
        self._commit_to(edit, network, lambda m: [nodes.delete_node(m, name, edit.revision, now)])
        log_edit("node-deleted", edit, network=network, node=name)

    def _commit_to(
        self, edit: Edit, network: str, decide: Callable[[Mesh], list[Record]]
    ) -> list[Record]:
        return commit_to(self._controller, edit, network, decide)

    def _commit(self, edit: Edit, networks: tuple[str, ...], decide: Decide) -> list[Record]:
        return self._controller.commit(edit.actor, networks, decide, dry_run=edit.dry_run)

    def _key_json(self, key: AccessKey, nodes: list[str]) -> Json:
        return {
            "id": key.id,
            "network": key.network,
            "state": _key_state(key, self._controller.now()),
            "uses": key.uses,
            "uses_max": key.uses_max,
            "expires_at": iso_time(key.expires_at),
            "created_at": iso_time(key.created_at),
            "revoked_at": iso_time(key.deleted_at),
            "nodes": sorted(nodes),
            "revision": key.revision,
        }

    def _node_json(self, node: Node, newest: int, most: int | None = None) -> Json:
        presence = self._controller.presence
        state = presence.state(node.identity, node.facts.interval)
        return {
            "name": node.name,
            "id": node.id,
            "network": node.network,
            "addresses": list(node.addresses),
            "state": state,
            "copies": presence.copies(node.identity, node.facts.interval),
            "cure": _cure(state, node.facts.interval),
            "last_seen": iso_time(presence.last_seen(node.identity)),
            "check_in": check_in_json(presence, node.identity, newest, most),
            "endpoint": node.endpoint or node.facts.endpoint,
            "roles": list(node.gateway.roles),
            "observed": list(node.observed),
            "lan": list(node.facts.lan),
            "listen_port": node.facts.listen_port,
            "public_key": node.facts.wg_key,
            "interval": node.facts.interval,
            "key": node.key_id,
            "created_at": iso_time(node.created_at),
            "revision": node.revision,
        }


def _network_json(network: Network, nodes: int) -> Json:
    return {
        "name": network.name,
        "cidr4": network.cidr4,
        "cidr6": network.cidr6,
        "nodes": nodes,
        "settings": effective(network.settings),
        "created_at": iso_time(network.created_at),
        "revision": network.revision,
    }


def _cure(state: str, interval: int) -> str | None:
    """What to do about a node in such a state; `interval`: of its check-ins, in seconds."""
    if state != "doubled":
        return CURES.get(state)
    minutes = ceil(LATE_INTERVALS * interval / 60)
    return f"{CURES[state]}; shown until one of them has been silent for {minutes} min"


def _stranger_json(stranger: Stranger) -> Json:
    return {"id": stranger.id, "address": stranger.remote, "last_seen": iso_time(stranger.seen)}


def _is_live(network: Network | None) -> bool:
    return network is not None and network.deleted_at is None


def _key_state(key: AccessKey, now: int) -> str:
    if key.deleted_at is not None:
        return "revoked"
    if key.expires_at is not None and key.expires_at <= now:
        return "expired"
    if key.uses_max is not None and key.uses >= key.uses_max:
        return "used-up"
    return "live"
