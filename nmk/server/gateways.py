"""The use cases of the admin: gateways."""

from __future__ import annotations

from collections import Counter

from nmk.core.claims import each_declined
from nmk.core.ext_clients import endpoint_of
from nmk.core.gateways import (
    SERVES,
    TOO_OLD,
    gateway_json,
    hindered,
    obstacle_of,
    parse_role,
)
from nmk.core.mesh import Mesh
from nmk.core.nodes import find_node
from nmk.core.records import PROTOCOL, ExtClient, Node, Record
from nmk.core.roles import RoleWish, add_role, remove_role
from nmk.core.sites import unsaid
from nmk.server.controller import Controller
from nmk.server.edits import (
    Edit,
    Json,
    commit_and_look,
    commit_to,
    flag_of,
    log_edit,
    optional_of,
    text_of,
    texts_of,
)

MOST_NAMED = 8  # of the nodes that do not follow a range


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
            seen_as=optional_of(body, "as", empty=True),
            same_lan=flag_of(body, "same_lan"),
        )

        def decide(mesh: Mesh) -> list[Record]:
            made = add_role(mesh, wish, edit.revision)
            return [] if made == mesh.nodes[made.identity] else [made]

        def look(
            mesh: Mesh, changed: list[Record]
        ) -> tuple[bool, Node, list[Node], list[ExtClient]]:
            node = find_node(mesh, wish.node)
            return bool(changed), node, list(mesh.nodes.values()), list(mesh.clients.values())

        is_new, node, nodes, clients = commit_and_look(
            self._controller, edit, network, decide, look
        )
        if is_new:
            asked = {"node": wish.node, "role": wish.role, "ranges": wish.ranges}
            log_edit("gateway-added", edit, network=network, **asked)
        [made] = self._gateways_json([(node, wish.role)], nodes, clients)
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
        let_in: dict[str, list[ExtClient]] = {}
        for client in clients:
            let_in.setdefault(client.gateway, []).append(client)
        ranges = {cidr for node, _ in gateways for cidr in node.gateway.ranges}
        routes = {n.name: n.gateway.ranges for n in nodes}
        left_out: dict[str, list[Json]] = {}
        unnamed = Counter[str]()
        lans = ((n.name, n.facts.lan) for n in sorted(nodes, key=lambda n: n.name))
        for cidr, name, subnet in each_declined(ranges, lans):
            if cidr in routes[name]:
                continue
            rows = left_out.setdefault(cidr, [])
            if len(rows) < MOST_NAMED:
                rows.append({"range": cidr, "node": name, "subnet": subnet})
            else:
                unnamed[cidr] += 1
        known = {n.name: n.gateway for n in nodes if n.gateway.ranges}
        shares: dict[str, list[Json]] = {}
        for first, second in unsaid({**known, **{n.name: n.gateway for n, _ in gateways}}):
            row = {"range": second.range, "node": first.name}
            shares.setdefault(second.name, []).append(row)
        return [
            {
                **self._gateway_json(node, role, let_in.get(node.identity, []), left_out, unnamed),
                "shares": shares.get(node.name, []) if role == "egress" else [],
            }
            for node, role in gateways
        ]

    def _gateway_json(
        self,
        node: Node,
        role: str,
        clients: list[ExtClient],
        left_out: dict[str, list[Json]],
        unnamed: Counter[str],
    ) -> Json:
        options = gateway_json(node.gateway)[role]
        leads = role == "ingress" and any(client.routes for client in clients)
        ranges = options.get("ranges", [])
        serves = self._controller.presence.serves(node.identity)
        if serves and role not in hindered(serves, node.gateway):
            serves = SERVES
        is_old = node.facts.protocol < PROTOCOL and (options.get("mapped") or leads)
        return {
            "node": node.name,
            "role": role,
            "network": node.network,
            "ranges": ranges,
            "mapped": options.get("mapped", {}),
            "same_lan": options.get("same_lan", []),
            "nat": options.get("nat"),
            "interface": options.get("interface"),
            "metric": options.get("metric"),
            "endpoint": options.get("endpoint"),
            "called_at": endpoint_of(node) if role == "ingress" else None,
            "clients": len(clients) if role == "ingress" else None,
            "state": self._controller.presence.state(node.identity, node.facts.interval),
            "serves": False if is_old else serves == SERVES if serves else None,
            "obstacle": TOO_OLD if is_old else obstacle_of(serves, node.gateway, role),
            "left_out": [row for cidr in ranges for row in left_out.get(cidr, ())],
            "left_out_more": sum(unnamed[cidr] for cidr in ranges),
            "revision": node.revision,
        }
