"""The roles that make a node a gateway, as values and as JSON."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from ipaddress import ip_network
from typing import Any, Literal, cast, get_args

from nmk.core.parse import (
    Range,
    parse_cidr,
    parse_endpoint,
    parse_int,
    parse_interface,
    parse_port,
    quote,
)
from nmk.errors import BadInput

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
    """Routes ranges outside the network; of several gateways the lowest metric that is up does."""

    ranges: tuple[str, ...]
    nat: Nat = "auto"
    interface: str | None = None
    metric: int = DEFAULT_METRIC


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
        """The ranges that it routes as an egress gateway."""
        return self.egress.ranges if self.egress else ()

    @property
    def interfaces(self) -> tuple[str, ...]:
        """The interfaces of its machine that it shall route by, where that matters."""
        named = (self.egress, self.exit)
        return tuple(sorted({role.interface for role in named if role and role.interface}))


NO_GATEWAY = Gateway()

# What a gateway says of its roles at a check-in: that it serves, or what keeps it from that.
SERVES = "yes"
OBSTACLES = {
    "accept-roles": "its owner has accept-roles=off",
    "nft": "nft is not installed there",
    "forwarding": "its kernel does not forward, and that cannot be changed",
    "interface": "the interface that it shall route by is not there",
}


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
        found["egress"] = {
            "ranges": list(gateway.egress.ranges),
            "nat": gateway.egress.nat,
            "interface": gateway.egress.interface,
            "metric": gateway.egress.metric,
        }
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
        else make_egress(egress["ranges"], egress["nat"], egress["interface"], egress["metric"]),
        exit=None if exit_ is None else make_exit(exit_["nat"], exit_["interface"]),
    )


def make_ingress(endpoint: str | None) -> Ingress:
    """The role from texts. Raises BadInput that quotes the culprit."""
    return Ingress(None if endpoint is None else parse_host_endpoint(endpoint))


def make_egress(
    ranges: Sequence[str], nat: str, interface: str | None, metric: str | int
) -> Egress:
    """The role from texts. Raises BadInput that quotes the culprit."""
    found = tuple(dict.fromkeys(str(parse_egress_range(text)) for text in ranges))
    if not found:
        raise BadInput("an egress gateway needs a range", "nmk gateway add NODE egress CIDR")
    if len(found) > MOST_RANGES:
        raise BadInput(f"{len(found)} ranges are too many", f"use at most {MOST_RANGES}")
    return Egress(
        ranges=tuple(sorted(found, key=lambda r: (":" in r, r))),
        nat=parse_nat(nat),
        interface=None if interface is None else parse_interface(interface),
        metric=parse_int(metric, 1, _HIGHEST_METRIC, "metric"),
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
    host, _, port = text.rpartition(":")
    if _HOST.fullmatch(host):
        return f"{host.lower()}:{parse_port(port)}"
    try:
        return parse_endpoint(text)
    except BadInput as error:
        hint = "write it like vpn.example.org:51821 or [2001:db8::7]:51821"
        raise BadInput(error.message, hint) from None
