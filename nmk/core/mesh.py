"""One network in memory: its records and the indexes that every decision reads.

A `Mesh` is changed only by `apply`, with records that a commit has stored. Views are cut from it
without a look at the database.
"""

from __future__ import annotations

import json
from collections.abc import Iterable

from nmk.core.entries import Entries
from nmk.core.pool import Pool
from nmk.core.records import AccessKey, Network, Node, Record
from nmk.core.settings import effective

KEPT_COMMITS = 10_000  # an agent further behind than this gets a full view


class Mesh:
    """The live state of one network; `revision` and `commit_id` name the change it is at."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.network: Network | None = None
        self.revision = 0
        self.commits: dict[int, str] = {}
        self.keys: dict[str, AccessKey] = {}
        self.nodes: dict[str, Node] = {}
        self.deleted: dict[str, Node] = {}
        self.by_name: dict[str, Node] = {}
        self.by_wg_key: dict[str, Node] = {}
        self.pools: dict[int, Pool] = {}
        self.settings: dict[str, int] = effective({})
        self.entries = Entries()
        self._gone: dict[str, int] = {}

    @property
    def commit_id(self) -> str:
        """The id of the commit that made the current revision."""
        return self.commits.get(self.revision, "")

    def apply(self, revision: int, commit_id: str, at: int, records: Iterable[Record]) -> None:
        """Take in one commit, made at the time `at`: its records as stored, in revision order.

        Or several commits at once, each record as the last of them left it. All that it replaces
        is forgotten first: names, keys and addresses may have changed hands.
        """
        records = list(records)
        for record in records:
            if isinstance(record, Node):
                self._forget(record.identity, at)
        for record in records:
            match record:
                case Network():
                    self._put_network(record)
                case AccessKey():
                    self.keys[record.id] = record
                case Node():
                    self._put_node(record)
        self.revision = revision
        self.commits[revision] = commit_id
        while len(self.commits) > KEPT_COMMITS:
            self.commits.pop(next(iter(self.commits)))

    def find(self, record: Record) -> Record | None:
        """The record that this one would replace."""
        match record:
            case Network():
                return self.network
            case AccessKey():
                return self.keys.get(record.id)
            case Node():
                return self.nodes.get(record.identity) or self.deleted.get(record.identity)

    def gone_since(self, revision: int) -> list[str]:
        """Ids of nodes deleted after a revision."""
        newer = []
        for node_id, at in reversed(self._gone.items()):
            if at <= revision:
                break
            newer.append(node_id)
        return newer

    def _put_network(self, network: Network) -> None:
        fresh = self.network is None or (self.network.cidr4, self.network.cidr6) != (
            network.cidr4,
            network.cidr6,
        )
        self.network = network
        self.settings = effective(network.settings)
        if fresh:
            cidrs = {4: network.cidr4, 6: network.cidr6}
            self.pools = {family: Pool(cidr) for family, cidr in cidrs.items() if cidr}

    def _forget(self, identity: str, at: int) -> None:
        before = self.nodes.pop(identity, None)
        if before:
            del self.by_name[before.name]
            del self.by_wg_key[before.facts.wg_key]
            self._free(before, at)

    def _put_node(self, node: Node) -> None:
        if node.deleted_at is not None:
            self._free(node, node.deleted_at)
            self.deleted[node.identity] = node
            self.entries.remove(node.id)
            self._gone[node.id] = node.revision
            return
        self.nodes[node.identity] = node
        self.by_name[node.name] = node
        self.by_wg_key[node.facts.wg_key] = node
        for address, pool in self._homes(node):
            pool.take(address)
        self.entries.put(node.id, node.revision, encode_entry(node))

    def _free(self, node: Node, at: int) -> None:
        for address, pool in self._homes(node):
            pool.free(address, at)

    def _homes(self, node: Node) -> list[tuple[str, Pool]]:
        pairs = ((node.address4, self.pools.get(4)), (node.address6, self.pools.get(6)))
        return [(address, pool) for address, pool in pairs if address and pool]


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
    return json.dumps(entry, separators=(",", ":")).encode()
