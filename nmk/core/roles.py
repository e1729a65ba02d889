"""What makes a node a gateway, and what makes it none again: decisions as in `core.decisions`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from ipaddress import ip_network

from nmk.core.decisions import find_node
from nmk.core.gateways import (
    Egress,
    Exit,
    Gateway,
    Role,
    make_egress,
    make_exit,
    make_ingress,
    parse_egress_range,
)
from nmk.core.mesh import Mesh
from nmk.core.parse import overlap, quote, with_port
from nmk.core.peers import MOST_EGRESS_RANGES
from nmk.core.records import Node
from nmk.errors import BadInput, NotFound, RangeOverlaps


@dataclass(frozen=True, slots=True)
class RoleWish:
    """A role that an admin gives a node, and what of it; None: as it is, "": no longer."""

    node: str
    role: Role
    ranges: Sequence[str] = ()
    nat: str | None = None
    interface: str | None = None
    endpoint: str | None = None
    metric: str | int | None = None


def add_role(mesh: Mesh, wish: RoleWish, revision: int | None = None) -> Node:
    """The node with a role, or with the role as it was and what is wished for here changed.

    Ranges are added to those it has. Raises BadInput where something does not belong to the role,
    NotFound, Stale as `find_node` does.
    """
    node = find_node(mesh, wish.node, revision)
    _check_belongs(
        wish.role,
        ranges=wish.ranges or None,
        nat=wish.nat,
        interface=wish.interface,
        endpoint=wish.endpoint,
        metric=wish.metric,
    )
    have = node.gateway
    gateway: Gateway
    match wish.role:
        case "ingress":
            known = have.ingress.endpoint if have.ingress else None
            asked = wish.endpoint and with_port(wish.endpoint, node.facts.listen_port)
            gateway = replace(have, ingress=make_ingress(_given(asked, known)))
        case "egress":
            base = have.egress or Egress(())
            egress = make_egress(
                (*base.ranges, *wish.ranges),
                wish.nat or base.nat,
                _given(wish.interface, base.interface),
                base.metric if wish.metric is None else wish.metric,
            )
            for cidr in egress.ranges:
                _check_apart(mesh, cidr)
            _check_amount(mesh, len(egress.ranges) - len(base.ranges))
            gateway = replace(have, egress=egress)
        case "exit":
            of = have.exit or Exit()
            made = make_exit(wish.nat or of.nat, _given(wish.interface, of.interface))
            gateway = replace(have, exit=made)
    return replace(node, gateway=gateway)


def _given(text: str | None, before: str | None) -> str | None:
    """What is wished for, as in RoleWish."""
    return before if text is None else text or None


def remove_role(
    mesh: Mesh, name: str, role: Role, ranges: Sequence[str], revision: int | None = None
) -> Node:
    """The node without the role; with `ranges`, an egress gateway without these alone.

    Raises NotFound where it has not got that, Stale as `find_node` does.
    """
    node = find_node(mesh, name, revision)
    if role not in node.gateway.roles:
        raise NotFound(f"{quote(name)} is no {role} gateway", f"nmk gateway list -n {mesh.name}")
    _check_belongs(role, ranges=ranges or None)
    given = [str(parse_egress_range(text)) for text in ranges]
    for cidr in given:
        if cidr not in node.gateway.ranges:
            raise NotFound(
                f"{quote(name)} does not route {cidr}", f"nmk gateway list -n {mesh.name}"
            )
    left = tuple(r for r in node.gateway.ranges if r not in given)
    egress = node.gateway.egress
    if role == "egress" and egress and given and left:
        return replace(node, gateway=replace(node.gateway, egress=replace(egress, ranges=left)))
    return replace(node, gateway=replace(node.gateway, **{role: None}))


_BELONGS = {
    "ingress": {"endpoint"},
    "egress": {"ranges", "nat", "interface", "metric"},
    "exit": {"nat", "interface"},
}


def _check_belongs(role: Role, **given: object) -> None:
    for what, value in given.items():
        if value is not None and what not in _BELONGS[role]:
            shown = "a range" if what == "ranges" else f"--{what}"
            raise BadInput(
                f"{shown} means nothing to an {role} gateway", f"nmk gateway add NODE {role} --help"
            )


def _check_amount(mesh: Mesh, more: int) -> None:
    """Raises BadInput where agents would not take so many more ranges into their views."""
    if sum(len(node.gateway.ranges) for node in mesh.nodes.values()) + more > MOST_EGRESS_RANGES:
        raise BadInput(
            f"all gateways of {mesh.name} together have {MOST_EGRESS_RANGES} ranges at most",
            "give a range that holds several of them",
        )


def _check_apart(mesh: Mesh, cidr: str) -> None:
    """Raises BadInput, RangeOverlaps where the network cannot lead to a range."""
    network = mesh.network
    family = ip_network(cidr).version
    if family not in mesh.pools:
        raise BadInput(
            f"{quote(cidr)}: {mesh.name} has no IPv{family} range, so nobody could send there",
            "nmk network create NAME CIDR CIDR6, for a network of both families",
        )
    for own in (network.cidr4, network.cidr6) if network else ():
        if own and overlap(ip_network(own), ip_network(cidr)):
            raise RangeOverlaps(
                f"{cidr} overlaps {own}, the range of {mesh.name} itself",
                "an egress gateway is for ranges outside the network: name one of a LAN",
            )
