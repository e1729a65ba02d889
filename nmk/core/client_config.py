"""The file for an ext client's WireGuard app (wg-quick(8)).

The admin API tells all of it but the private key. What it tells goes into a file that wg-quick may
read as root, so each value is checked to be no more than what it should be.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from nmk.core.gateways import parse_host_endpoint
from nmk.core.parse import brief, parse_address, parse_cidr, parse_int, parse_key
from nmk.errors import BadInput, BadReply

_HIGHEST = 65535


@dataclass(frozen=True, slots=True)
class ClientConfig:
    """What the file says besides the private key. `keepalive` in seconds, 0 for none."""

    addresses: tuple[str, ...]
    gateway_key: str
    endpoint: str
    ranges: tuple[str, ...]
    mtu: int
    keepalive: int


def parse_client_config(data: Mapping[str, Any]) -> ClientConfig:
    """The `config` of the admin API's answer. Raises BadReply."""
    try:
        return ClientConfig(
            addresses=tuple(str(parse_address(a)) for a in data["addresses"]),
            gateway_key=parse_key(data["gateway_key"]),
            endpoint=parse_host_endpoint(data["endpoint"]),
            ranges=tuple(str(parse_cidr(r)) for r in data["ranges"]),
            mtu=parse_int(data["mtu"], 1, _HIGHEST, "mtu"),
            keepalive=parse_int(data["keepalive"], 0, _HIGHEST, "keepalive"),
        )
    except BadInput as error:
        raise BadReply(f"the controller's config is not usable: {error.message}") from None
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise BadReply(f"the controller's config is not usable: {brief(error)}") from None


def render_client_config(config: ClientConfig, private_key: str | None) -> str:
    """The file. Without a private key the device puts in its own."""
    addresses = ", ".join(f"{a}/128" if ":" in a else f"{a}/32" for a in config.addresses)
    lines = [
        "[Interface]",
        f"PrivateKey = {private_key}" if private_key else "# PrivateKey = the one of the device",
        f"Address = {addresses}",
        f"MTU = {config.mtu}",
        "",
        "[Peer]",
        f"PublicKey = {config.gateway_key}",
        f"AllowedIPs = {', '.join(config.ranges)}",
        f"Endpoint = {config.endpoint}",
    ]
    if config.keepalive:
        lines.append(f"PersistentKeepalive = {config.keepalive}")
    return "\n".join(lines) + "\n"
