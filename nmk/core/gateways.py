"""The roles that make a node a gateway, as values and as JSON."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from ipaddress import ip_network
from types import MappingProxyType
from typing import Any, Literal, cast, get_args

from nmk.core.parse import (
    Range,
    check_no_url,
    overlap,
    parse_cidr,
    parse_endpoint,
    parse_int,
    parse_interface,
    parse_port,
    quote,
)
from nmk.errors import BadInput, RangeOverlaps

Nat = Literal["auto", "on", "off"]
Role = Literal["ingress", "egress", "exit"]
Json = dict[str, Any]

NATS: tuple[str, ...] = get_args(Nat)
ROLES: tuple[str, ...] = get_args(Role)
DEFAULT_METRIC = 100
MOST_RANGES = 64  # of one gateway
_HIGHEST_METRIC = 65535
_WIDEST = {4: 8, 6: 16}  # ranges so wide that a few of them are the internet are an exit's
_HOST = re.compile(r"(?=.{1,253}\Z)(?:[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9])?\.)*"
                   r"[a-z](?:[a-z0-9-]{0,61}[a-z0-9])?", re.ASCII | re.IGNORECASE)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Ingress:
    """Lets ext clients in. `endpoint`: HOST:PORT where they call; None: what nmk knows itself."""

    endpoint: str | None = None


@dataclass(frozen=True, slots=True)
class Egress:
    """Routes ranges outside the network; of several gateways the lowest metric that is up does.

    `ranges`: as the network sees them; `mapped`: the LAN's own range behind each that is mapped
    1:1; `same_lan`: those of which an admin has said that other gateways serve the same LAN.
    """

    ranges: tuple[str, ...]
    nat: Nat = "auto"
    interface: str | None = None
    metric: int = DEFAULT_METRIC
    mapped: Mapping[str, str] = field(default_factory=dict, hash=False)
    same_lan: tuple[str, ...] = ()

    @property
    def lans(self) -> tuple[str, ...]:
        """The ranges as the LANs themselves have them, in the order of `ranges`."""
        return tuple(self.mapped.get(cidr, cidr) for cidr in self.ranges)


@dataclass(frozen=True, slots=True)
class Exit:
    """Routes everything, for those that ask it to."""

    nat: Nat = "auto"
    interface: str | None = None


@dataclass(frozen=True, slots=True)
class Gateway:
    """A node's roles. The default has none: the node is no gateway."""

    ingress: Ingress | None = None
    egress: Egress | None = None
    exit: Exit | None = None

    @property
    def roles(self) -> tuple[str, ...]:
        """The names of the roles it has."""
        return tuple(role for role in ROLES if getattr(self, role) is not None)

    @property
    def ranges(self) -> tuple[str, ...]:
        """The ranges that it routes as an egress gateway, as the network sees them."""
        return self.egress.ranges if self.egress else ()

    @property
    def lans(self) -> tuple[str, ...]:
        """The same ranges as the LANs themselves have them."""
        return self.egress.lans if self.egress else ()

    @property
    def mapped(self) -> Mapping[str, str]:
        """The LAN's own range behind each that is mapped."""
        return self.egress.mapped if self.egress else {}

    @property
    def interfaces(self) -> Mapping[str, str]:
        """The interface that a role shall route by, of the roles for which that matters."""
        of = {"egress": self.egress, "exit": self.exit}
        return {name: role.interface for name, role in of.items() if role and role.interface}


NO_GATEWAY = Gateway()

# What a gateway says of its roles at a check-in: that it serves, or what keeps it from that.
SERVES = "yes"
OBSTACLES = {
    "accept-roles": "its owner has accept-roles=off",
    "down": "its owner took the interface down",
    "nft": "nft is not installed there",
    "forwarding": "its kernel does not forward, and that cannot be changed",
    "interface": (_NO_INTERFACE := "the interface that it shall route by{} is not there"),
    "egress-interface": _NO_INTERFACE,  # that of egress alone, where exit has another one
    "exit-interface": _NO_INTERFACE,
    "network": "a range of it is in another network of its machine, where it lets nobody in",
}
_HINDERED = {"network": ("egress",), "egress-interface": ("egress",), "exit-interface": ("exit",)}
TOO_OLD = "its nmk is older than 0.3.0 and does not know what is mapped, or behind an ext client"


def hindered(said: str, gateway: Gateway) -> tuple[str, ...]:
    """The roles that an obstacle is in the way of. `said`: what the gateway said of them."""
    return tuple(gateway.interfaces) if said == "interface" else _HINDERED.get(said, gateway.roles)


def obstacle_of(said: str, gateway: Gateway, *roles: str) -> str | None:
    """What is in the way of these roles, all without any, in words; None where nothing is."""
    hit = [role for role in hindered(said, gateway) if role in (roles or ROLES)]
    names = dict.fromkeys(gateway.interfaces[role] for role in hit if role in gateway.interfaces)
    text = OBSTACLES.get(said)
    return text and text.format(f", {' and '.join(names)}," if names else "")


def lacking(gateway: Gateway, is_there: Callable[[str], bool]) -> str:
    """The obstacle where interfaces that its roles shall route by are missing, or ""."""
    missing = [role for role, name in gateway.interfaces.items() if not is_there(name)]
    if missing and len(missing) < len(gateway.interfaces):
        return f"{missing[0]}-interface"
    return "interface" if missing else ""


def is_translated(nat: Nat, source: str) -> bool:
    """Whether packets of a source range get the gateway's own address on their way out.

    auto: unless the source is globally routable, and so finds its own way back.
    """
    return nat == "on" or (nat == "auto" and not ip_network(source).is_global)


def gateway_json(gateway: Gateway) -> Json:
    """The roles as they are stored and as they travel; {} for none."""
    found: Json = {}
    if gateway.ingress:
        found["ingress"] = {"endpoint": gateway.ingress.endpoint}
    if gateway.egress:
        egress = gateway.egress
        found["egress"] = {
            "ranges": list(egress.ranges),
            "nat": egress.nat,
            "interface": egress.interface,
            "metric": egress.metric,
        }
        if egress.mapped:
            found["egress"]["mapped"] = dict(egress.mapped)
        if egress.same_lan:
            found["egress"]["same_lan"] = list(egress.same_lan)
    if gateway.exit:
        found["exit"] = {"nat": gateway.exit.nat, "interface": gateway.exit.interface}
    return found


def parse_gateway(data: Mapping[str, Any]) -> Gateway:
    """What `gateway_json` made. Raises BadInput, KeyError, TypeError or AttributeError."""
    ingress, egress, exit_ = (data.get(role) for role in ROLES)
    return Gateway(
        ingress=None if ingress is None else make_ingress(ingress["endpoint"]),
        egress=None
        if egress is None
        else make_egress(
            egress["ranges"],
            egress["nat"],
            egress["interface"],
            egress["metric"],
            egress.get("mapped", {}),
            egress.get("same_lan", ()),
        ),
        exit=None if exit_ is None else make_exit(exit_["nat"], exit_["interface"]),
    )


def unmapped(gateway: Gateway) -> Gateway:
    """The roles without the ranges that are mapped."""
    if not gateway.mapped or gateway.egress is None:
        return gateway
    left = tuple(cidr for cidr in gateway.ranges if cidr not in gateway.mapped)
    rest = replace(gateway.egress, ranges=left, mapped={}) if left else None
    return replace(gateway, egress=rest)


def make_ingress(endpoint: str | None) -> Ingress:
    """The role from texts. Raises BadInput that quotes the culprit."""
    return Ingress(None if endpoint is None else parse_host_endpoint(endpoint))


def make_egress(
    ranges: Sequence[str],
    nat: str,
    interface: str | None,
    metric: str | int,
    mapped: Mapping[str, str] = MappingProxyType({}),
    same_lan: Sequence[str] = (),
) -> Egress:
    """The role from texts. Raises BadInput that quotes the culprit."""
    found = parse_egress_ranges(ranges)
    if not found:
        raise BadInput("an egress gateway needs a range", "nmk gateway add NODE egress CIDR")
    behind = {cidr: parse_mapping(lan, cidr) for cidr, lan in mapped.items()}
    if unknown := [cidr for cidr in behind if cidr not in found]:
        raise BadInput(f"{quote(unknown[0])} is mapped, and not routed", "nmk gateway list")
    return Egress(
        ranges=found,
        nat=parse_nat(nat),
        interface=None if interface is None else parse_interface(interface),
        metric=parse_int(metric, 1, _HIGHEST_METRIC, "metric"),
        mapped={cidr: behind[cidr] for cidr in found if cidr in behind},
        same_lan=tuple(cidr for cidr in found if cidr in same_lan),
    )


def parse_egress_ranges(texts: Sequence[str]) -> tuple[str, ...]:
    """Ranges as `parse_egress_range` takes them, IPv4 first, each once, and not too many."""
    found = {str(parse_egress_range(text)) for text in texts}
    if len(found) > MOST_RANGES:
        raise BadInput(f"{len(found)} ranges are too many", f"use at most {MOST_RANGES}")
    return tuple(sorted(found, key=lambda r: (":" in r, r)))


def parse_mapping(lan: str, cidr: str) -> str:
    """A LAN's range that is seen as another one, address by address: both have the same size."""
    inner, outer = parse_egress_range(lan), parse_egress_range(cidr)
    if (inner.version, inner.prefixlen) != (outer.version, outer.prefixlen):
        raise BadInput(
            f"{quote(lan)} cannot be mapped to {quote(cidr)}, which has another size or family",
            f"use an IPv{inner.version} range with the prefix /{inner.prefixlen}",
        )
    return str(inner)


def check_distinct(gateway: Gateway) -> None:
    """Raises RangeOverlaps where a gateway could not tell which of its ranges an address is of.

    That is where one that is mapped shares addresses with another, on either side.
    """
    sides = (dict(zip(gateway.ranges, gateway.ranges, strict=True)),
             dict(zip(gateway.ranges, gateway.lans, strict=True)))  # fmt: skip
    for side in sides:
        for cidr in gateway.mapped:
            for other, of in side.items():
                if other != cidr and overlap(ip_network(of), ip_network(side[cidr])):
                    raise RangeOverlaps(
                        f"{side[cidr]} and {of} of one gateway overlap, and one of them is mapped",
                        "take one of the two away: nmk gateway remove NODE egress CIDR",
                    )


def make_exit(nat: str, interface: str | None) -> Exit:
    """The role from texts. Raises BadInput that quotes the culprit."""
    return Exit(parse_nat(nat), None if interface is None else parse_interface(interface))


def parse_role(text: str) -> Role:
    """A role's name."""
    if text not in ROLES:
        raise BadInput(f"{quote(text)} is no role of a gateway", f"there are: {', '.join(ROLES)}")
    return cast(Role, text)


def parse_nat(text: str) -> Nat:
    """`auto`, `on` or `off`."""
    if text not in NATS:
        raise BadInput(f"{quote(text)} cannot be nat", f"use one of: {', '.join(NATS)}")
    return cast(Nat, text)


def parse_egress_range(text: str) -> Range:
    """A range that an egress gateway may route: unicast, no host bits, far from everything."""
    cidr = parse_cidr(text)
    if cidr.prefixlen == 0:
        raise BadInput(
            f"{quote(text)} is everything, which is no range", "nmk gateway add NODE exit"
        )
    if cidr.prefixlen < _WIDEST[cidr.version]:
        raise BadInput(
            f"{quote(text)} is too wide", f"use a prefix from /{_WIDEST[cidr.version]} on"
        )
    if (
        cidr.is_multicast
        or cidr.is_loopback
        or cidr.is_link_local
        or cidr.network_address.is_unspecified
        or (cidr.is_reserved and cidr.version == 4)  # IPv6: what the RFCs have not assigned yet
    ):
        raise BadInput(f"{quote(text)} is not routed anywhere", "use the range of a LAN")
    return cidr


def parse_host_endpoint(text: str) -> str:
    """`HOST:PORT`: as `parse_endpoint`, or with a host's name, in lower case (RFC 1123, 2.1)."""
    check_no_url(text)
    host, _, port = text.rpartition(":")
    if _HOST.fullmatch(host):
        return f"{host.lower()}:{parse_port(port)}"
    try:
        return parse_endpoint(text)
    except BadInput as error:
        hint = "write it like vpn.example.org:51821 or [2001:db8::7]:51821"
        raise BadInput(error.message.replace("IP address", "host or IP address"), hint) from None
