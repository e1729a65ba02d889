"""How much of a view each node may fill, so that agents take in the largest there can be.

What agents take of one reply (`core.peers`) is dealt out here: every node and ext client has its
share, whoever else there is, and two pools are for what some need beyond it. What an agent reports
beyond share and pool its peers are not told of; what an admin wants beyond a pool is refused.
"""

from __future__ import annotations

import json
from dataclasses import replace

from nmk.core.gateways import gateway_json
from nmk.core.peers import MOST_CANDIDATES, MOST_INFLATED, MOST_OTHERS
from nmk.core.records import ExtClient, Node

SHARE = 384  # bytes of an entry; all but roles, ranges and LAN addresses always fits
OBSERVED = 2  # addresses that a node is seen at
FREE_LAN = 4  # LAN addresses of a node that need nothing of a pool, where they fit its share
MOST_EACH = 64  # LAN addresses that a node may report
MOST_EACH_BYTES = MOST_EACH * len('"ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff/128",')
MOST_ROLES = 512 * 1024  # bytes of all roles and ranges; about all that there may be, in IPv4
HEAD = 512 * 1024  # bytes of a reply beside the entries: 16,384 ids that are gone have 311,296
MOST_LAN_BYTES = MOST_INFLATED - HEAD - MOST_ROLES - MOST_OTHERS * SHARE
MOST_LAN = MOST_CANDIDATES - MOST_OTHERS * (OBSERVED + FREE_LAN)
_ROLES_FRAME = len(',"gateway":')
_LAN_FRAME = len('"",')


def encode_entry(node: Node) -> bytes:
    """A node as all its peers see it: one JSON object, the same bytes for every viewer."""
    entry: dict[str, object] = {
        "id": node.id,
        "name": node.name,
        "key": node.facts.wg_key,
        "addresses": node.addresses,
        "port": node.facts.listen_port,
        "lan": node.facts.lan,
        "observed": node.observed,
    }
    static = node.endpoint or node.facts.endpoint
    if static:
        entry["static"] = static
    if node.playable.roles:
        entry["gateway"] = gateway_json(node.playable)
    return dump(entry)


def dump(value: object) -> bytes:
    """JSON as it travels."""
    return json.dumps(value, separators=(",", ":")).encode()


def roles_size(record: Node | ExtClient) -> int:
    """The bytes of an entry that an admin's wishes for roles and ranges cause, at most."""
    if isinstance(record, Node):
        roles = record.gateway.roles
        return _ROLES_FRAME + len(dump(gateway_json(record.gateway))) if roles else 0
    return _ROLES_FRAME + len(dump(record.routes)) if record.routes else 0


def within_share(node: Node) -> int:
    """How many of a node's LAN addresses need nothing of the pool."""
    if len(node.facts.lan) <= FREE_LAN and len(encode_entry(node)) < SHARE:
        return len(node.facts.lan)
    left = SHARE - 1 - len(encode_entry(with_lan(node, 0))) + _roles_told(node)
    count = 0
    for text in node.facts.lan[:FREE_LAN]:
        left -= len(text) + _LAN_FRAME
        if left < 0:
            break
        count += 1
    return count


def beyond_share(node: Node) -> tuple[int, int]:
    """What a node's other LAN addresses would take of the pool: bytes, and how many they are."""
    beyond = node.facts.lan[within_share(node) :]
    return sum(map(len, beyond)) + _LAN_FRAME * len(beyond), len(beyond)


def with_lan(node: Node, count: int) -> Node:
    """The node with the first of its LAN addresses alone."""
    return replace(node, facts=replace(node.facts, lan=node.facts.lan[:count]))


def _roles_told(node: Node) -> int:
    told = node.playable
    return _ROLES_FRAME + len(dump(gateway_json(told))) if told.roles else 0
