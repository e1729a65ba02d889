"""What a request changes of nodes: from a mesh to the records to write, or an error.

No function here writes. The caller commits the records with the revision that the decision was
made on; when another commit was faster, it decides again on the newer state.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TypeVar

from nmk.core.access_keys import admit
from nmk.core.mesh import Mesh, check_fresh
from nmk.core.parse import (
    label_from,
    look_in,
    parse_address,
    parse_endpoint,
    parse_label,
    quote,
    with_port,
)
from nmk.core.peers import MOST_OTHERS
from nmk.core.records import ExtClient, Facts, JoinRequest, Node, Record
from nmk.errors import (
    AddressTaken,
    BadInput,
    NameTaken,
    NodeDeleted,
    NotFound,
    RangeFull,
    StaleSequence,
)

QUARANTINE = 30 * 86400  # seconds until a freed address is like any other free one
NUMBERED_LEAVE = 2  # the protocol's version from which on a leave has a number
FURTHEST_AHEAD = 100_000_000  # reports that a controller put back from a backup can lack
_NUMBERED_BASE = 54  # characters, which leaves room for any number of nodes
Addressed = TypeVar("Addressed", Node, ExtClient)


def find_node(mesh: Mesh, name: str, revision: int | None = None) -> Node:
    """A live node by its name; `revision`: what an editor saw, None for whatever is.

    Raises NotFound, Stale.
    """
    node = mesh.by_name.get(name)
    if node is None and name in mesh.client_by_name:
        raise NotFound(
            f"{quote(name)} is an ext client, and no node",
            f"nmk extclient show -n {mesh.name} {name}",
        )
    if node is None:
        raise NotFound(
            f"there is no node {quote(name)} in {mesh.name}",
            look_in(f"nmk node list -n {mesh.name}", name, mesh.by_name),
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
    if facts.protocol < node.facts.protocol:  # an earlier nmk beside a newer tells it otherwise
        facts = replace(facts, protocol=node.facts.protocol, instance=node.facts.instance)
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
    """Raises StaleSequence where a report or leave is not newer than the last one taken in.

    Also where it is newer than it can be: taken in, it would leave the machine no higher number.
    The machine goes on from the one that the error tells it.
    """
    if not node.seq < seq <= node.seq + FURTHEST_AHEAD:
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


def _check_wg_key(mesh: Mesh, identity: str, facts: Facts) -> None:
    owner = mesh.by_wg_key.get(facts.wg_key)
    if facts.wg_key in mesh.client_by_key or (owner is not None and owner.identity != identity):
        whose = "another node's" if owner else "an ext client's"
        raise BadInput(
            f"the WireGuard key {facts.wg_key} is {whose}",
            "join anew with keys of its own: nmk leave --force, then nmk join -",
        )
