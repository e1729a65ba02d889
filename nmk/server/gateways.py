"""The use cases of the admin: gateways."""

from __future__ import annotations

from collections import Counter
from typing import cast

from nmk.core.claims import find_declined
from nmk.core.ext_clients import endpoint_of
from nmk.core.gateways import OBSTACLES, SERVES, gateway_json, parse_role
from nmk.core.records import ExtClient, Node
from nmk.core.roles import RoleWish, add_role, remove_role
from nmk.server.controller import Controller
from nmk.server.edits import Edit, Json, commit_to, log_edit, optional_of, text_of, texts_of


class Gateways:
    """The admin API's side of gateways."""

    def __init__(self, controller: Controller) -> None:
        self._controller = controller

    def list_gateways(self, network: str) -> list[Json]:
        """A network's gateways, an object for each role of each node, by name."""
        with self._controller.lock:
            mesh = self._controller.mesh(network)
            gateways = sorted(mesh.gateways.values(), key=lambda n: n.name)
            nodes, clients = list(mesh.nodes.values()), list(mesh.clients.values())
        return self._gateways_json(
            [(g, r) for g in gateways for r in g.gateway.roles], nodes, clients
        )

    def add_gateway(self, edit: Edit, network: str, body: Json) -> Json:
        """Give a node a role, or change one that it has."""
        wish = RoleWish(
            node=text_of(body, "node"),
            role=parse_role(text_of(body, "role")),
            ranges=texts_of(body, "ranges"),
            nat=optional_of(body, "nat"),
            interface=optional_of(body, "interface", empty=True),
            endpoint=optional_of(body, "endpoint", empty=True),
            metric=body.get("metric"),
        )
        [node] = commit_to(
            self._controller,
            edit,
            network,
            lambda mesh: [add_role(mesh, wish, edit.revision)],
        )
        log_edit(
            "gateway-added",
            edit,
            network=network,
            node=wish.node,
            role=wish.role,
            ranges=wish.ranges,
        )
        with self._controller.lock:
            mesh = self._controller.mesh(network)
            nodes, clients = list(mesh.nodes.values()), list(mesh.clients.values())
        [made] = self._gateways_json([(cast(Node, node), wish.role)], nodes, clients)
        return made

    def remove_gateway(
        self, edit: Edit, network: str, name: str, role_name: str, ranges: list[str]
    ) -> None:
        """Take a role from a node, or only some ranges from an egress gateway."""
        role = parse_role(role_name)
        commit_to(
            self._controller,
            edit,
            network,
            lambda mesh: [remove_role(mesh, name, role, ranges, edit.revision)],
        )
        log_edit("gateway-removed", edit, network=network, node=name, role=role, ranges=ranges)

    def _gateways_json(
        self, gateways: list[tuple[Node, str]], nodes: list[Node], clients: list[ExtClient]
    ) -> list[Json]:
        counts = Counter(client.gateway for client in clients)
        ranges = {cidr for node, _ in gateways for cidr in node.gateway.ranges}
        declined = find_declined(ranges, ((n.name, n.facts.lan) for n in nodes))
        routes = {n.name: n.gateway.ranges for n in nodes}
        left_out = {
            cidr: [
                {"range": cidr, "node": name, "subnet": subnet}
                for name, subnet in sorted(rows)
                if cidr not in routes[name]
            ]
            for cidr, rows in declined.items()
        }
        return [self._gateway_json(n, role, counts[n.identity], left_out) for n, role in gateways]

    def _gateway_json(
        self, node: Node, role: str, clients: int, left_out: dict[str, list[Json]]
    ) -> Json:
        options = gateway_json(node.gateway)[role]
        ranges = options.get("ranges", [])
        serves = self._controller.presence.serves(node.identity)
        return {
            "node": node.name,
            "role": role,
            "network": node.network,
            "ranges": ranges,
            "nat": options.get("nat"),
            "interface": options.get("interface"),
            "metric": options.get("metric"),
            "endpoint": options.get("endpoint"),
            "called_at": endpoint_of(node) if role == "ingress" else None,
            "clients": clients if role == "ingress" else None,
            "state": self._controller.presence.state(node.identity, node.facts.interval),
            "serves": serves == SERVES if serves else None,
            "obstacle": OBSTACLES.get(serves),
            "left_out": [row for cidr in ranges for row in left_out.get(cidr, ())],
            "revision": node.revision,
        }
