"""What makes a node a gateway, and what makes it none again: decisions as in `core.nodes`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from shlex import quote as quote_word

from nmk.core.gateways import (
    Egress,
    Exit,
    Gateway,
    Role,
    check_distinct,
    make_egress,
    make_exit,
    make_ingress,
    parse_egress_range,
    parse_mapping,
)
from nmk.core.mesh import Mesh
from nmk.core.nodes import find_node
from nmk.core.parse import quote, with_port
from nmk.core.records import Node
from nmk.core.sites import (
    carried_by,
    check_amount,
    check_carrier,
    check_own_lan,
    check_range,
    check_roles,
    check_routers,
)
from nmk.errors import BadInput, NotFound, RangeOverlaps


@dataclass(frozen=True, slots=True)
class RoleWish:
    """A role that an admin gives a node, and what of it; None: as it is, "": no longer.

    `seen_as`: what the only range of `ranges` is mapped to; `same_lan`: that other gateways for
    `ranges` serve the same LAN.
    """

    node: str
    role: Role
    ranges: Sequence[str] = ()
    nat: str | None = None
    interface: str | None = None
    endpoint: str | None = None
    metric: str | int | None = None
    seen_as: str | None = None
    same_lan: bool = False


def add_role(mesh: Mesh, wish: RoleWish, revision: int | None = None) -> Node:
    """The node with a role, or with the role as it was and what is wished for here changed.

    Ranges are added to those it has. Raises BadInput where something does not belong to the role,
    RangeOverlaps, NotFound, Stale as `find_node` does.
    """
    node = find_node(mesh, wish.node, revision)
    _check_belongs(
        wish.role,
        ranges=wish.ranges or None,
        nat=wish.nat,
        interface=wish.interface,
        endpoint=wish.endpoint,
        metric=wish.metric,
        seen_as=wish.seen_as,
        same_lan=wish.same_lan or None,
    )
    have = node.gateway
    gateway: Gateway
    match wish.role:
        case "ingress":
            known = have.ingress.endpoint if have.ingress else None
            asked = wish.endpoint and with_port(wish.endpoint, node.facts.listen_port)
            gateway = replace(have, ingress=make_ingress(_given(asked, known)))
        case "egress":
            gateway = replace(have, egress=_with_ranges(mesh, node, wish))
        case "exit":
            of = have.exit or Exit()
            made = make_exit(wish.nat or of.nat, _given(wish.interface, of.interface))
            gateway = replace(have, exit=made)
    after = replace(node, gateway=gateway)
    check_roles(mesh, after)
    return after


def _with_ranges(mesh: Mesh, node: Node, wish: RoleWish) -> Egress:
    """The egress gateway with the ranges wished for, each checked that it does not have yet."""
    base = node.gateway.egress or Egress(())
    if (wish.seen_as is not None and len(wish.ranges) != 1) or (wish.same_lan and not wish.ranges):
        flag, many = ("--same-lan", "ranges") if wish.same_lan else ("--as", "one range")
        raise BadInput(f"{flag} is for {many} of this command", "nmk gateway add --help")
    lans = dict(zip(base.ranges, base.lans, strict=True))
    named = [_placed(lans, str(parse_egress_range(text)), wish.seen_as) for text in wish.ranges]
    egress = make_egress(
        tuple(lans),
        wish.nat or base.nat,
        _given(wish.interface, base.interface),
        base.metric if wish.metric is None else wish.metric,
        {cidr: lan for cidr, lan in lans.items() if cidr != lan},
        (*base.same_lan, *(named if wish.same_lan else ())),
    )
    made = Gateway(egress=egress)
    check_distinct(made)
    check_amount(mesh, len(egress.ranges) - len(base.ranges))
    before = set(zip(base.ranges, base.lans, strict=True))
    for new in carried_by(node.name, made):
        if new.range in named and (wish.same_lan or (new.range, new.lan) not in before):
            check_range(mesh, new.range)
            check_range(mesh, new.lan)
            if new.range != new.lan:
                check_own_lan(node, new.range)
                check_routers(mesh, node, new.lan)
            check_carrier(mesh, replace(new, typed=_typed(wish)))
    return egress


def _typed(wish: RoleWish) -> str:
    """The options of a wish as `nmk gateway add` takes them, but for where its range lies."""
    given = {"nat": wish.nat, "interface": wish.interface, "metric": wish.metric}
    return "".join(f" --{name} {quote_word(str(v))}" for name, v in given.items() if v is not None)


def _placed(lans: dict[str, str], lan: str, seen_as: str | None) -> str:
    """Put a LAN among those that a gateway leads to, by the ranges that the network sees.

    None: as it is seen already, else as it is; "": as it is.
    """
    known = lan if lan in lans else next((cidr for cidr, of in lans.items() if of == lan), None)
    if known is not None and seen_as is None:
        return known
    if known is not None:
        lan = lans.pop(known)
    cidr = str(parse_egress_range(seen_as)) if seen_as else lan
    if cidr in lans:
        had = "as it is" if lans[cidr] == cidr else f"in the place of {lans[cidr]}"
        raise RangeOverlaps(f"this gateway routes {cidr} {had} already", "map to another range")
    lans[cidr] = parse_mapping(lan, cidr)
    return cidr


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
    seen = {lan: cidr for cidr, lan in node.gateway.mapped.items()}
    texts = [str(parse_egress_range(text)) for text in ranges]
    given = [text if text in node.gateway.ranges else seen.get(text, text) for text in texts]
    for cidr in given:
        if cidr not in node.gateway.ranges:
            raise NotFound(
                f"{quote(name)} does not route {cidr}", f"nmk gateway list -n {mesh.name}"
            )
    left = tuple(r for r in node.gateway.ranges if r not in given)
    egress = node.gateway.egress
    if role == "egress" and egress and given and left:
        rest = replace(
            egress,
            ranges=left,
            mapped={cidr: lan for cidr, lan in egress.mapped.items() if cidr in left},
            same_lan=tuple(cidr for cidr in egress.same_lan if cidr in left),
        )
        return replace(node, gateway=replace(node.gateway, egress=rest))
    return replace(node, gateway=replace(node.gateway, **{role: None}))


_BELONGS = {
    "ingress": {"endpoint"},
    "egress": {"ranges", "nat", "interface", "metric", "seen_as", "same_lan"},
    "exit": {"nat", "interface"},
}
_FLAGS = {"ranges": "a range", "seen_as": "--as", "same_lan": "--same-lan"}


def _check_belongs(role: Role, **given: object) -> None:
    for what, value in given.items():
        if value is not None and what not in _BELONGS[role]:
            shown = _FLAGS.get(what, f"--{what}")
            raise BadInput(
                f"{shown} means nothing to an {role} gateway", f"nmk gateway add NODE {role} --help"
            )
