"""Ranges outside a network: who leads where, and whether one more gets in somebody's way.

A range is carried by an egress gateway, as it is or mapped 1:1, or by an ext client that is a
router. Two may carry the same addresses only where an admin says that both lead to the same LAN:
a packet has one way.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from ipaddress import ip_interface, ip_network
from itertools import islice

from nmk.core.claims import holds
from nmk.core.gateways import Gateway
from nmk.core.links import CLOUDS, LINKS
from nmk.core.mesh import Mesh
from nmk.core.parse import Range, overlap, quote
from nmk.core.peers import MOST_EGRESS_RANGES
from nmk.core.records import ExtClient, Node, Record, key_of
from nmk.core.room import MOST_ROLES, roles_size
from nmk.errors import BadInput, RangeOverlaps

_SPARE = ip_network("10.201.0.0/16")  # where the ranges that errors propose are taken from
_TRIED = 256


@dataclass(frozen=True, slots=True)
class Carrier:
    """A range, as the network sees it and as its LAN has it. `kind`: node or ext client.

    `typed`: the options that an admin gave with it, for a command that is proposed instead.
    """

    kind: str
    name: str
    range: str
    lan: str
    same_lan: bool = False
    typed: str = ""

    def agrees(self, other: Carrier) -> bool:
        """Whether addresses that both carry are the same addresses of a LAN."""
        return self.shift == other.shift

    @property
    def way(self) -> tuple[str, str]:
        """What it leads to, and as what: those that serve one LAN have it in common."""
        return self.range, self.lan

    @property
    def shift(self) -> int:
        """How far the LAN's addresses are from those that the network sees."""
        there, seen = ip_network(self.lan), ip_network(self.range)
        return int(there.network_address) - int(seen.network_address)


def carried_by(name: str, gateway: Gateway) -> Iterator[Carrier]:
    """What one egress gateway carries."""
    said = gateway.egress.same_lan if gateway.egress else ()
    for cidr, lan in zip(gateway.ranges, gateway.lans, strict=True):
        yield Carrier("node", name, cidr, lan, cidr in said)


def carriers(mesh: Mesh) -> Iterator[Carrier]:
    """All that anybody in the network carries."""
    for node in mesh.gateways.values():
        yield from carried_by(node.name, node.gateway)
    for client in mesh.routers.values():
        for cidr in client.routes:
            yield Carrier("ext client", client.name, cidr, cidr)


def unsaid(gateways: Mapping[str, Gateway]) -> list[tuple[Carrier, Carrier]]:
    """Pairs that carry the same addresses, though nobody has said that it is the same LAN.

    By the gateways' names; the second of a pair comes later by name. One pair for each range.
    """
    known = [c for name in sorted(gateways) for c in carried_by(name, gateways[name])]
    known.sort(key=lambda c: (_start(c.range), ip_network(c.range).prefixlen))
    found: dict[tuple[str, str], tuple[Carrier, Carrier]] = {}
    around: list[Carrier] = []  # the ranges that hold the one at hand
    for one in known:
        while around and not overlap(ip_network(around[-1].range), ip_network(one.range)):
            around.pop()
        for other in around:
            if other.name != one.name and not (one.same_lan or other.same_lan):
                first, second = sorted((one, other), key=lambda c: c.name)
                found.setdefault((second.name, second.range), (first, second))
        around.append(one)
    return list(found.values())


def check_range(mesh: Mesh, cidr: str) -> None:
    """Raises BadInput, RangeOverlaps where the network cannot lead to a range, or must not."""
    network, there = mesh.network, ip_network(cidr)
    family = there.version
    if link := next((r for r in LINKS if overlap(ip_network(r), there)), None):
        raise BadInput(
            f"{quote(cidr)} holds addresses of {link}, which mean something on one link alone",
            "use the range of a LAN",
        )
    if any(holds(cloud, cidr) for cloud in CLOUDS):
        raise BadInput(
            f"{quote(cidr)} is a cloud's service: there each machine asks its own cloud provider",
            "use the range of a LAN",
        )
    if family not in mesh.pools:
        raise BadInput(
            f"{quote(cidr)}: {mesh.name} has no IPv{family} range, so nobody could send there",
            "nmk network create NAME CIDR CIDR6, for a network of both families",
        )
    for own in (network.cidr4, network.cidr6) if network else ():
        if own and overlap(ip_network(own), there):
            raise RangeOverlaps(
                f"{cidr} overlaps {own}, the range of {mesh.name} itself",
                "use a range outside the network",
            )


def check_amount(mesh: Mesh, more: int) -> None:
    """Raises BadInput where agents would not take so many more ranges into their views."""
    count = sum(len(node.gateway.ranges) for node in mesh.gateways.values())
    count += sum(len(client.routes) for client in mesh.routers.values())
    if count + more > MOST_EGRESS_RANGES:
        raise BadInput(
            f"all gateways of {mesh.name} together have {MOST_EGRESS_RANGES} ranges at most",
            "give a range that holds several of them",
        )


def check_roles(mesh: Mesh, *new: Record) -> None:
    """Raises BadInput where agents could not be told of the roles and ranges in these records."""
    wished = {key_of(r): roles_size(r) for r in new if isinstance(r, Node | ExtClient)}
    if any(wished.values()):
        have: list[Node | ExtClient] = [*mesh.gateways.values(), *mesh.routers.values()]
        total = sum(wished.values())
        total += sum(roles_size(one) for one in have if key_of(one) not in wished)
        if total > MOST_ROLES:
            raise BadInput(
                f"all roles and ranges of {mesh.name} together have {MOST_ROLES} bytes at most, "
                "as its machines are told of them",
                "take away what is not needed: nmk gateway list; nmk gateway remove",
            )


def check_carrier(mesh: Mesh, new: Carrier) -> None:
    """Raises RangeOverlaps where somebody else carries addresses of the range already."""
    for other in carriers(mesh):
        if other.name == new.name or not overlap(ip_network(other.range), ip_network(new.range)):
            continue
        if new.same_lan and other.kind == "node" and new.agrees(other):
            continue
        inside = "" if other.range == new.range else f"overlaps {other.range}, which "
        routed = f"is routed by the {other.kind} {other.name} already"
        raise RangeOverlaps(f"{new.range} {inside}{routed}", _way_out(mesh, new, other))


def _way_out(mesh: Mesh, new: Carrier, other: Carrier) -> str:
    """What an admin does where one more shall carry what somebody carries."""
    movable = new if new.kind == "node" else other
    if movable.kind != "node":
        return "give one of the two LANs another range"
    spare = _free_range(mesh, ip_network(movable.lan))
    map_it = _map(mesh.name, movable, spare)
    if movable is other:
        names, map_them = _map_group(mesh, other, spare)
        return f"map that of {names}: {map_them}"
    if other.kind != "node":
        return f"map it: {map_it}"
    if not new.agrees(other):
        return f"{other.lan} is behind {other.name}, so it is not the same LAN; map it: {map_it}"
    both = f"map it: {map_it}"
    if other.lan == other.range:  # as it is: an office whose hosts have those addresses too
        names, map_them = _map_group(mesh, other, _free_range(mesh, ip_network(other.lan), spare))
        both = f"map {'both' if names == other.name else 'all'}: {map_them} && {map_it}"
    return f"if that is the same LAN: {_add(mesh.name, new)} --same-lan; else {both}"


def check_own_lan(node: Node, cidr: str) -> None:
    """Raises RangeOverlaps where a node is itself in a range that it would lead elsewhere."""
    lans = [ip_interface(address).network for address in node.facts.lan]
    lans += [ip_network(lan) for lan in node.gateway.mapped.values()]
    for own in lans:
        if overlap(own, ip_network(cidr)):
            raise RangeOverlaps(
                f"{cidr} overlaps {own}, in which {node.name} is itself", "use another range"
            )


def check_routers(mesh: Mesh, node: Node, lan: str) -> None:
    """Raises RangeOverlaps where a LAN to be mapped is also behind an ext client of the node."""
    for client in mesh.routers.values():
        if client.gateway == node.identity:
            for cidr in client.routes:
                if overlap(ip_network(cidr), ip_network(lan)):
                    raise RangeOverlaps(
                        f"{lan} overlaps {cidr} behind the ext client {client.name} of {node.name}",
                        f"nmk extclient set -n {mesh.name} {client.name} gateway=ANOTHER",
                    )


def parted(before: Sequence[Carrier], now: Sequence[Carrier]) -> list[tuple[Carrier, Carrier]]:
    """Whom a gateway leaves alone with a LAN that it is now seen to have as another range.

    `before`: what all carried; `now`: what the one gateway does. Pairs of who is left, and of what
    the one carries in the place of that.
    """
    return [
        (other, one)
        for one in now
        for was in before
        if was.name == one.name and was.lan == one.lan and was.range != one.range
        for other in before
        if other.name != one.name and other.way == was.way
    ]


def way_along(network: str, left: Carrier, now: Carrier) -> str:
    """What an admin does where both of a pair that `parted` found go on to serve one LAN."""
    return f"{_map(network, left, ip_network(now.range))} --same-lan"


def ways_to_say(network: str, first: str, second: Carrier) -> list[str]:
    """What an admin does about the second of a pair that `unsaid` found, a line each.

    `first`: the name of the other one.
    """
    lines = [
        f"  if so: {_add(network, second)} --same-lan",
        f"  else: {_map(network, second, None)}",
    ]
    if second.lan == second.range:  # hosts of both have addresses of each other
        lines.append(f"  and map that of {first} the same way, to a range of its own")
    return lines


def _add(network: str, new: Carrier) -> str:
    as_ = f" --as {new.range}" if new.lan != new.range else ""
    return f"nmk gateway add -n {network} {new.name} egress {new.lan}{as_}{new.typed}"


def _map(network: str, new: Carrier, to: Range | None) -> str:
    """The way out for a LAN of its own: its range under another one."""
    seen_as = to or "ANOTHER-RANGE"
    return f"nmk gateway add -n {network} {new.name} egress {new.lan} --as {seen_as}{new.typed}"


def _map_group(mesh: Mesh, one: Carrier, to: Range | None) -> tuple[str, str]:
    """The same of all that serve one LAN, and who these are: mapped alone one would stand alone."""
    group = [c for c in carriers(mesh) if c.kind == "node" and c.way == one.way]
    if len(group) < 2:
        return one.name, _map(mesh.name, one, to)
    names = " and ".join(member.name for member in group)
    return names, " && ".join(f"{_map(mesh.name, c, to)} --same-lan" for c in group)


def _free_range(mesh: Mesh, lan: Range, promised: Range | None = None) -> Range | None:
    """A range of that size that nobody in the network has, nor is promised; if found soon."""
    spare: Range = _SPARE
    if lan.version == 6:  # RFC 4193, 3.2, and the same whenever it is asked for
        start = b"\xfd" + blake2b(mesh.name.encode(), digest_size=5).digest()
        spare = ip_network(f"{start.hex(':', 2)}::/48")
    if lan.prefixlen < spare.prefixlen:
        return None
    network = mesh.network
    texts = [c for c in (network.cidr4, network.cidr6) if c] if network else []
    texts += [text for one in carriers(mesh) for text in (one.range, one.lan)]
    taken = {ip_network(text) for text in texts}
    taken |= {ip_interface(a).network for node in mesh.nodes.values() for a in node.facts.lan}
    taken |= {promised} if promised else set()
    near = [cidr for cidr in taken if overlap(cidr, spare)]
    subnets: Iterator[Range] = spare.subnets(new_prefix=lan.prefixlen)
    for cidr in islice(subnets, _TRIED):
        if not any(overlap(cidr, other) for other in near):
            return cidr
    return None


def _start(cidr: str) -> tuple[int, int]:
    found = ip_network(cidr)
    return found.version, int(found.network_address)
