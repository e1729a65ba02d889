"""What a request changes: from meshes and a request to the records to write, or an error.

No function here writes. The caller commits the records with the revision that the decision was
made on; when another commit was faster, it decides again on the newer state.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from hmac import compare_digest
from ipaddress import ip_network
from typing import TypeVar

from nmk.core.mesh import Mesh
from nmk.core.parse import (
    Range,
    label_from,
    overlap,
    parse_address,
    parse_endpoint,
    parse_label,
    parse_network_name,
    parse_range,
    quote,
    with_port,
)
from nmk.core.peers import MOST_OTHERS
from nmk.core.records import AccessKey, ExtClient, Facts, Network, Node, Record, hash_secret
from nmk.core.settings import parse_settings
from nmk.errors import (
    AddressTaken,
    BadInput,
    KeyExpired,
    KeyRefused,
    KeyRevoked,
    KeyUsedUp,
    NameTaken,
    NodeDeleted,
    NotFound,
    RangeFull,
    RangeOverlaps,
    Stale,
    StaleSequence,
)

QUARANTINE = 30 * 86400  # seconds until a freed address is like any other free one
NUMBERED_LEAVE = 2  # the protocol's version from which on a leave has a number
_NUMBERED_BASE = 54  # characters, which leaves room for any number of nodes
_TEN = ip_network("10.0.0.0/8")
Addressed = TypeVar("Addressed", Node, ExtClient)


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


def create_network(
    meshes: Mapping[str, Mesh],
    name: str,
    cidrs: list[str],
    settings: Mapping[str, str | int],
    random: bytes,
    now: int,
    hosts: Sequence[str] = (),
) -> Network:
    """A new network. Without ranges a free IPv4 /16 and IPv6 ULA /64 (RFC 4193) are picked.

    `random`: at least 7 bytes, from which the picks are derived; `hosts`: addresses and names of
    the controller. One whose addresses all lie in the network would be looked for in the mesh.
    """
    parse_network_name(name)
    live = {m.name: m.network for m in meshes.values() if m.network and not m.network.deleted_at}
    if name in live:
        raise NameTaken(f"a network named {quote(name)} exists", "nmk network list")
    taken = {
        ip_network(c): n.name for n in live.values() for c in (n.cidr4, n.cidr6) if c is not None
    }
    own = _addresses_of(hosts)
    chosen = [parse_range(text) for text in cidrs] or pick_ranges([*taken, *own], random)
    by_family: dict[int, Range] = {}
    for cidr in chosen:
        if cidr.version in by_family:
            raise BadInput(
                f"{quote(cidr)} is a second IPv{cidr.version} range",
                "give one IPv4 range, one IPv6 range or one of each",
            )
        by_family[cidr.version] = cidr
        for other, owner in taken.items():
            if overlap(other, cidr):
                raise RangeOverlaps(f"{cidr} overlaps {other} of network {quote(owner)}")
    inside = [host for host in own if any(overlap(host, cidr) for cidr in chosen)]
    if hosts and len(inside) == len(hosts):
        raise BadInput(
            f"{' and '.join(map(str, chosen))} would hold the controller itself, "
            f"which has {', '.join(hosts)}",
            "use a range of its own, such as 10.20.0.0/16",
        )
    cidr4, cidr6 = by_family.get(4), by_family.get(6)
    return Network(
        name=name,
        cidr4=str(cidr4) if cidr4 else None,
        cidr6=str(cidr6) if cidr6 else None,
        settings=parse_settings(settings),
        created_at=now,
    )


def _addresses_of(hosts: Sequence[str]) -> list[Range]:
    """Those of the hosts that are no names, which may lead anywhere."""
    found: list[Range] = []
    for host in hosts:
        with suppress(ValueError):
            found.append(ip_network(host))
    return found


def pick_ranges(taken: list[Range], random: bytes) -> list[Range]:
    """An unused 10.x.0.0/16 and a random ULA /64; the choice starts at a random x."""
    for step in range(256):
        cidr = ip_network(f"10.{(random[0] + step) % 256}.0.0/16")
        if not any(overlap(cidr, t) for t in taken):
            break
    else:
        raise RangeOverlaps(f"no /16 of {_TEN} is free", "give a range of your own")
    groups = (b"\xfd" + random[1:6] + b"\0" + random[6:7]).hex(":", 2)
    return [cidr, ip_network(f"{groups}::/64")]


def set_network(mesh: Mesh, settings: Mapping[str, str | int], revision: int | None) -> Network:
    """The network with settings changed; `revision`: what the editor saw, None for whatever is."""
    network = live_network(mesh)
    check_fresh(network.revision, revision, f"network {quote(network.name)}")
    return replace(network, settings={**network.settings, **parse_settings(settings)})


def delete_network(mesh: Mesh, revision: int | None, now: int) -> list[Record]:
    """Tombstones of the network, its nodes, its ext clients and its keys."""
    network = live_network(mesh)
    check_fresh(network.revision, revision, f"network {quote(network.name)}")
    return [
        replace(network, deleted_at=now),
        *(replace(n, deleted_at=now) for n in mesh.nodes.values()),
        *(replace(c, deleted_at=now) for c in mesh.clients.values()),
        *(replace(k, deleted_at=now) for k in mesh.keys.values() if k.deleted_at is None),
    ]


def live_network(mesh: Mesh) -> Network:
    """The mesh's network; NotFound when it was deleted."""
    if mesh.network is None or mesh.network.deleted_at is not None:
        raise NotFound(f"there is no network {quote(mesh.name)}", "nmk network list")
    return mesh.network


def find_key(mesh: Mesh, key_id: str, *, revoked: bool = False) -> AccessKey:
    """An access key by its id; one that was revoked only if asked for. Raises NotFound."""
    key = mesh.keys.get(key_id)
    if key is None or (key.deleted_at is not None and not revoked):
        raise NotFound(f"there is no access key {quote(key_id)}", "nmk key list --all")
    return key


def find_node(mesh: Mesh, name: str, revision: int | None = None) -> Node:
    """A live node by its name; `revision`: what an editor saw, None for whatever is.

    Raises NotFound, Stale.
    """
    node = mesh.by_name.get(name)
    if node is None:
        raise NotFound(
            f"there is no node {quote(name)} in {mesh.name}", f"nmk node list -n {mesh.name}"
        )
    check_fresh(node.revision, revision, f"node {quote(name)}")
    return node


def join(mesh: Mesh, request: JoinRequest, observed: tuple[str, ...], now: int) -> list[Record]:
    """The records that let a machine in: its node and the key with one more use.

    The same identity again is the same node and changes nothing: a join whose reply was lost is
    repeated, and one that was recorded may be played again by anybody.
    """
    if request.identity in mesh.deleted:
        raise NodeDeleted("this machine's node was deleted")
    key = admit(mesh, request, now)
    _check_wg_key(mesh, request.identity, request.facts)
    node = mesh.nodes.get(request.identity)
    if node is not None:
        return []
    name = free_name(mesh, request)
    addresses = free_addresses(mesh, request.address, now)
    node = Node(
        identity=request.identity,
        network=mesh.name,
        name=name,
        address4=addresses.get(4),
        address6=addresses.get(6),
        facts=request.facts,
        observed=observed,
        key_id=key.id,
        created_at=now,
    )
    return [node, replace(key, uses=key.uses + 1)]


def admit(mesh: Mesh, request: JoinRequest, now: int) -> AccessKey:
    """The access key of the request: its secret right, not revoked, expired or used up.

    A machine that is a node already comes in again whatever has become of its key since.
    """
    key = mesh.keys.get(request.key_id)
    if key is None or not opens(mesh, request):
        raise KeyRefused("the access key is not one of this network's")
    if request.identity in mesh.nodes:
        return key
    if key.deleted_at is not None:
        raise KeyRevoked("the access key was revoked")
    if key.expires_at is not None and key.expires_at <= now:
        raise KeyExpired("the access key has expired")
    if key.uses_max is not None and key.uses >= key.uses_max:
        raise KeyUsedUp(f"the access key has been used {key.uses} of {key.uses_max} times")
    return key


def opens(mesh: Mesh, request: JoinRequest) -> bool:
    """Whether the request has the id and the secret of a key, whatever has become of that."""
    key = mesh.keys.get(request.key_id)
    return key is not None and compare_digest(key.secret_hash, hash_secret(request.secret))


def free_name(mesh: Mesh, request: JoinRequest) -> str:
    """The name asked for, or one made from the host's: with a number where that is taken."""
    if request.name is not None:
        parse_label(request.name, "node name")
        if has_name(mesh, request.name):
            raise NameTaken(
                f"{mesh.name} has {_owner_of(mesh, request.name)} named {quote(request.name)}",
                "choose another with --name, or: nmk node delete on the controller",
            )
        return request.name
    base = label_from(request.host_name)
    return base if not has_name(mesh, base) else numbered(base, lambda n: has_name(mesh, n))


def has_name(mesh: Mesh, name: str) -> bool:
    """Whether a node or an ext client has the name: they share one space of names."""
    return name in mesh.by_name or name in mesh.client_by_name


def check_name(mesh: Mesh, name: str, what: str) -> str:
    """A name that nobody has yet. Raises BadInput, NameTaken."""
    if has_name(mesh, parse_label(name, what)):
        raise NameTaken(f"{mesh.name} has {_owner_of(mesh, name)} named {quote(name)}")
    return name


def _owner_of(mesh: Mesh, name: str) -> str:
    return "a node" if name in mesh.by_name else "an ext client"


def numbered(base: str, is_taken: Callable[[str], bool]) -> str:
    """`base-2`, or with the number after one that is taken: in few steps, not by counting up."""

    def name(number: int) -> str:
        return f"{base[:_NUMBERED_BASE]}-{number}"

    taken, free = 1, 2
    while is_taken(name(free)):
        taken, free = free, free * 2
    while free - taken > 1:
        middle = (taken + free) // 2
        if is_taken(name(middle)):
            taken = middle
        else:
            free = middle
    return name(free)


def free_addresses(mesh: Mesh, asked: str | None, now: int) -> dict[int, str]:
    """An address of each of the network's families; one of them may have been asked for."""
    check_room(mesh)
    given = dict([asked_address(mesh, asked)] if asked is not None else [])
    for family, pool in mesh.pools.items():
        if family not in given:
            pool.settle(now - QUARANTINE)
            given[family] = pool.next()
    return given


def check_room(mesh: Mesh, more: int = 1) -> None:
    """Raises RangeFull where agents would not take so many more into their views."""
    if len(mesh.nodes) + len(mesh.clients) + more > MOST_OTHERS:
        raise RangeFull(
            f"a network has {MOST_OTHERS} nodes and ext clients at most: no machine takes in more",
            "nmk node delete NODE, for a machine that is gone; or make another network",
        )


def asked_address(mesh: Mesh, text: str) -> tuple[int, str]:
    """The family and the canonical form of an address that somebody wants and nobody has."""
    family = parse_address(text).version
    if family not in mesh.pools:
        raise BadInput(
            f"{quote(text)}: {mesh.name} has no IPv{family} range",
            f"use an address of {', '.join(str(pool.cidr) for pool in mesh.pools.values())}",
        )
    return family, mesh.pools[family].check(text)


def report(
    mesh: Mesh, identity: str, seq: int, facts: Facts, observed: tuple[str, ...]
) -> list[Record]:
    """The node with what its agent reported, and from where.

    A report's number must be above the last one stored, and is stored whatever it reports: only
    so can no report be played again.
    """
    node = mesh.nodes[identity]
    check_number(node, seq)
    _check_wg_key(mesh, identity, facts)
    facts = replace(facts, protocol=max(facts.protocol, node.facts.protocol))
    return [replace(node, facts=facts, observed=observed, seq=seq)]


def leave(mesh: Mesh, identity: str, seq: int | None, now: int) -> list[Record]:
    """The tombstone of a node that says it is no more.

    Its number is judged like a report's, so that none that was held back undoes a machine that
    has gone on. One without a number is taken from nodes that have never been able to give one.
    """
    node = mesh.nodes[identity]
    if seq is None and node.facts.protocol < NUMBERED_LEAVE:
        return [replace(node, deleted_at=now)]
    check_number(node, seq or 0)
    return [replace(node, deleted_at=now, seq=seq or 0)]


def check_number(node: Node, seq: int) -> None:
    """Raises StaleSequence where a report or leave is not newer than the last one taken in."""
    if seq <= node.seq:
        stale = StaleSequence(f"number {seq} came after number {node.seq}")
        stale.stored = node.seq
        raise stale


def set_node(mesh: Mesh, name: str, changes: Mapping[str, str], revision: int | None) -> Node:
    """The node with admin's wishes: `name`, `address` (either family), `endpoint` ("" unpins)."""
    node = find_node(mesh, name, revision)
    for field, value in changes.items():
        match field:
            case "name":
                if value != name:
                    node = replace(node, name=check_name(mesh, value, "node name"))
            case "address":
                node = move_to(mesh, node, value)
            case "endpoint":
                text = with_port(value, node.facts.listen_port)
                node = replace(node, endpoint=parse_endpoint(text) if text else None)
            case _:
                raise BadInput(
                    f"{quote(field)} is no setting of a node", "there are: name, address, endpoint"
                )
    return node


def move_to(mesh: Mesh, record: Addressed, address: str) -> Addressed:
    """The record at another address of its own choice, of either family."""
    if str(parse_address(address)) in record.addresses:
        return record
    try:
        family, found = asked_address(mesh, address)
    except AddressTaken as error:
        who = f"nmk node list -n {mesh.name}; nmk extclient list -n {mesh.name}"
        raise AddressTaken(error.message, who) from None
    return replace(record, address6=found) if family == 6 else replace(record, address4=found)


def delete_node(mesh: Mesh, name: str, revision: int | None, now: int) -> Node:
    """The node's tombstone."""
    return replace(find_node(mesh, name, revision), deleted_at=now)


def delete_key(mesh: Mesh, key_id: str, revision: int | None, now: int) -> AccessKey:
    """The key's tombstone. Nodes that it let in stay."""
    key = find_key(mesh, key_id)
    check_fresh(key.revision, revision, f"access key {quote(key_id)}")
    return replace(key, deleted_at=now)


def _check_wg_key(mesh: Mesh, identity: str, facts: Facts) -> None:
    owner = mesh.by_wg_key.get(facts.wg_key)
    if facts.wg_key in mesh.client_by_key or (owner is not None and owner.identity != identity):
        whose = "another node's" if owner else "an ext client's"
        raise BadInput(
            f"the WireGuard key {facts.wg_key} is {whose}",
            "join anew with keys of its own: nmk leave --force, then nmk join -",
        )


def check_fresh(current: int, seen: int | None, what: str) -> None:
    """Raises Stale where a change was made on another revision than the current one."""
    if seen is not None and seen != current:
        raise Stale(f"{what} is at revision {current}, the change was made on revision {seen}")
