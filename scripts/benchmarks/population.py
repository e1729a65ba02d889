"""Networks with as many nodes as are wanted, each of which has joined as machines do."""

from __future__ import annotations

import base64
import secrets
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from hashlib import blake2b
from itertools import islice
from pathlib import Path

from nmk.core import networks, nodes, records
from nmk.core.mesh import Mesh
from nmk.core.records import AccessKey, Facts, Record, hash_secret, key_of
from nmk.server.controller import EVERYWHERE
from nmk.server.datadir import DataDir
from nmk.store.engine import open_engine
from nmk.store.store import Commit, Store, describe_change
from nmk.wire.envelope import Identity

NETWORK = "home"
RANGES = ["10.77.0.0/16", "fd77::/64"]
OBSERVED = ("127.0.0.1",)  # where the requests of them all come from
FILES = ("controller.key", "admin.key", "nmk.db")
_BATCH = 500  # joins that are written at once; each is a commit of its own all the same


@dataclass(frozen=True, slots=True)
class Ticket:
    """An access key that lets in any number of machines."""

    key_id: str
    secret: bytes

    def request(self, identity: Identity, number: int) -> records.JoinRequest:
        """What the machine of that number asks when it joins."""
        return records.JoinRequest(
            identity=base64.b64encode(identity.public).decode(),
            key_id=self.key_id,
            secret=self.secret,
            name=None,
            host_name=f"machine-{number:05}",
            address=None,
            facts=facts(number),
        )


@dataclass(frozen=True, slots=True)
class Population:
    """Who is in a database, whom they trust, and how one more may come in."""

    controller_key: bytes
    ticket: Ticket
    nodes: tuple[Identity, ...]


def populate(directory: Path, count: int) -> Population:
    """Make a controller's data directory with a network of `count` nodes."""
    data = DataDir(directory)
    with data.first_start():
        store = Store(open_engine(f"sqlite://{data.database}"))
    nodes = tuple(Identity.generate() for _ in range(count))
    mesh, ticket, first = found_network()
    everywhere = replace(first.commit, network=EVERYWHERE, id=secrets.token_hex(8))
    store.commit([first.commit, everywhere], first.records)
    numbered = iter(enumerate(nodes))
    while batch := list(islice(numbered, _BATCH)):
        steps = [join(mesh, ticket, identity, number) for number, identity in batch]
        newest = {key_of(r): r for step in steps for r in step.records}
        store.commit([step.commit for step in steps], newest.values())
    store.close()
    return Population(data.identity.public, ticket, nodes)


@dataclass(frozen=True, slots=True)
class Step:
    """One commit to a network, and the records as it stores them."""

    commit: Commit
    records: Sequence[Record]


def found_network() -> tuple[Mesh, Ticket, Step]:
    """A new network in memory, with a key to it."""
    mesh, ticket = Mesh(NETWORK), Ticket("bench", secrets.token_bytes(32))
    network = networks.create_network({}, NETWORK, RANGES, {}, secrets.token_bytes(16), _now())
    key = AccessKey(ticket.key_id, NETWORK, hash_secret(ticket.secret), uses_max=None)
    return mesh, ticket, _apply(mesh, "bench", [network, key])


def join(mesh: Mesh, ticket: Ticket, identity: Identity, number: int) -> Step:
    """The machine of that number joins."""
    request = ticket.request(identity, number)
    records = nodes.join(mesh, request, OBSERVED, _now())
    return _apply(mesh, f"node:{request.identity}", records)


def facts(number: int, listen_port: int = 51821) -> Facts:
    """What the machine of that number says of itself: it is at home, with both families."""
    high, low = divmod(number, 256)
    return Facts(
        wg_key=base64.b64encode(blake2b(b"%d" % number, digest_size=32).digest()).decode(),
        listen_port=listen_port,
        lan=(f"192.168.{high % 256}.{low}/24", f"2001:db8:{high:x}:{low:x}::17/64"),
    )


def _apply(mesh: Mesh, actor: str, records: Sequence[Record]) -> Step:
    revision = mesh.revision + 1
    stored = [replace(r, revision=revision) for r in records]
    what = describe_change((mesh.find(r), r) for r in stored)
    commit = Commit(NETWORK, revision, secrets.token_hex(8), _now(), actor, what)
    mesh.apply(commit.revision, commit.id, commit.at, stored)
    return Step(commit, stored)


def _now() -> int:
    return int(time.time())
