"""What the controller stores, as plain values: one class a table, one field a column.

`revision` is the network's revision that wrote the row last. Times are whole seconds since 1970
(UTC); `deleted_at` marks a tombstone. Secrets appear only as hashes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from hashlib import blake2b, sha256
from typing import Literal

from nmk.core.gateways import NO_GATEWAY, Gateway, unmapped

PROTOCOL = 2
"""The version of the protocol that this nmk speaks; agents up to nmk 0.2.0 speak 1."""

ClientState = Literal["enabled", "disabled", "expired"]


@dataclass(frozen=True, slots=True)
class Network:
    """One overlay. At least one of the two ranges is set; `settings` holds what was set only."""

    name: str
    cidr4: str | None
    cidr6: str | None
    settings: Mapping[str, int] = field(default_factory=dict)
    created_at: int = 0
    deleted_at: int | None = None
    revision: int = 0


@dataclass(frozen=True, slots=True)
class AccessKey:
    """A secret that lets machines join. `uses_max`, `expires_at` None: without limit, never."""

    id: str
    network: str
    secret_hash: str
    uses: int = 0
    uses_max: int | None = 1
    expires_at: int | None = None
    created_at: int = 0
    deleted_at: int | None = None
    revision: int = 0


@dataclass(frozen=True, slots=True)
class Facts:
    """What an agent says of its machine.

    `lan` holds the machine's own addresses with prefix lengths ("192.168.1.7/24"), `interval`
    the seconds between its check-ins, `endpoint` what its owner pinned. `instance` is another one
    after each boot and on each machine, so that a copied identity shows. `protocol`: the version
    that its agent speaks, of a stored node the highest that it ever has.
    """

    wg_key: str
    listen_port: int
    lan: tuple[str, ...] = ()
    interval: int = 60
    endpoint: str | None = None
    instance: str = ""
    protocol: int = 1


@dataclass(frozen=True, slots=True)
class JoinRequest:
    """What a machine asks for: to be the node `identity`, let in by a key's secret."""

    identity: str
    key_id: str
    secret: bytes
    name: str | None
    host_name: str
    address: str | None
    facts: Facts


@dataclass(frozen=True, slots=True)
class Node:
    """One machine's membership. `identity` is the machine's X25519 public key, in base64.

    `observed` holds the addresses that check-ins came from, one a family; `endpoint` is what an
    admin pinned, `gateway` the roles that one gave it; `seq`: the last number of a report or leave.
    """

    identity: str
    network: str
    name: str
    address4: str | None
    address6: str | None
    facts: Facts
    observed: tuple[str, ...] = ()
    endpoint: str | None = None
    gateway: Gateway = NO_GATEWAY
    seq: int = 0
    key_id: str = ""
    created_at: int = 0
    deleted_at: int | None = None
    revision: int = 0

    @property
    def id(self) -> str:
        """A short name for the identity: 16 hex digits, the same everywhere."""
        return node_id(self.identity)

    @property
    def addresses(self) -> tuple[str, ...]:
        """The addresses inside the network, IPv4 first."""
        return tuple(a for a in (self.address4, self.address6) if a)

    @property
    def playable(self) -> Gateway:
        """Its roles as its agent can play them: up to nmk 0.2.0 they would not map a range."""
        return self.gateway if self.facts.protocol >= PROTOCOL else unmapped(self.gateway)


@dataclass(frozen=True, slots=True)
class Issue:
    """What the config of an ext client says that may cease to fit.

    None: not known, as somebody else made the config. `keepalive` in seconds, 0 for none.
    """

    addresses: tuple[str, ...]
    gateway_key: str
    endpoint: str | None = None
    ranges: tuple[str, ...] | None = None
    mtu: int | None = None
    keepalive: int | None = None


@dataclass(frozen=True, slots=True)
class ExtClient:
    """A device with a plain WireGuard app. `gateway` is the identity of its ingress gateway.

    `routes`: ranges behind it, where it is a router; `state` is expired where the controller has
    seen `expires_at` pass; `issue` what its config says. Its private key is known to the device
    alone.
    """

    id: str
    network: str
    name: str
    gateway: str
    public_key: str
    address4: str | None
    address6: str | None
    issue: Issue
    routes: tuple[str, ...] = ()
    full_tunnel: bool = False
    state: ClientState = "enabled"
    expires_at: int | None = None
    created_at: int = 0
    deleted_at: int | None = None
    revision: int = 0

    @property
    def addresses(self) -> tuple[str, ...]:
        """The addresses inside the network, IPv4 first."""
        return tuple(a for a in (self.address4, self.address6) if a)


Record = Network | AccessKey | Node | ExtClient


def node_id(identity: str) -> str:
    """The id of the node with that identity."""
    return blake2b(identity.encode(), digest_size=8).hexdigest()


def hash_secret(secret: bytes) -> str:
    """What is stored of an access key's secret (32 random bytes, so a plain hash does)."""
    return sha256(secret).hexdigest()


def key_of(record: Record) -> str:
    """A record's primary key within its table."""
    match record:
        case Network():
            return record.name
        case AccessKey() | ExtClient():
            return record.id
        case Node():
            return record.identity
