"""The use cases of the admin: gateways."""

from __future__ import annotations

from typing import cast

from nmk.core.ext_clients import endpoint_of
from nmk.core.gateways import OBSTACLES, SERVES, Role, gateway_json, parse_role
from nmk.core.records import Node
from nmk.core.roles import RoleWish, add_role, remove_role
from nmk.core.routes import own_subnet_in_the_way
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
        counts: dict[str, int] = {}
        for client in clients:
            counts[client.gateway] = counts.get(client.gateway, 0) + 1
        return [
            self._gateway_json(node, role, counts.get(node.identity, 0), nodes)
            for node in gateways
            for role in node.gateway.roles
        ]

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
            nodes = list(mesh.nodes.values())
            count = sum(c.gateway == cast(Node, node).identity for c in mesh.clients.values())
        return self._gateway_json(cast(Node, node), wish.role, count, nodes)

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

    def _gateway_json(self, node: Node, role: Role | str, clients: int, nodes: list[Node]) -> Json:
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
            "left_out": _left_out(node, ranges, nodes),
            "revision": node.revision,
        }


def _left_out(gateway: Node, ranges: list[str], nodes: list[Node]) -> list[Json]:
    """The nodes that do not route a range, as it is their own LAN."""
    found = []
    for cidr in ranges:
        for node in nodes:
            subnet = own_subnet_in_the_way(cidr, node.facts.lan)
            if subnet and node.identity != gateway.identity:
                found.append({"range": cidr, "node": node.name, "subnet": subnet})
    return sorted(found, key=lambda row: (row["range"], row["node"]))
