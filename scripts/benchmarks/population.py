"""A controller's data directory with as many nodes in it as are wanted, each as if it had joined."""

from __future__ import annotations

import base64
import secrets
import time
from dataclasses import dataclass, replace
from hashlib import blake2b
from itertools import islice
from pathlib import Path

from nmk.core import decisions
from nmk.core.mesh import Mesh
from nmk.core.records import AccessKey, Facts, Record, hash_secret, key_of
from nmk.server.controller import EVERYWHERE, Controller
from nmk.server.datadir import DataDir
from nmk.store.engine import open_engine
from nmk.store.store import Commit, Store, describe_change
from nmk.wire.envelope import Identity

NETWORK = "home"
RANGES = ["10.77.0.0/16", "fd77::/64"]
OBSERVED = ("127.0.0.1",)  # where all of the crowd's requests come from
FILES = ("controller.key", "admin.key", "nmk.db")
_BATCH = 500  # joins that are written at once; each is a commit of its own all the same


@dataclass(frozen=True, slots=True)
class Population:
    """Who is in the database, and how one more may come in."""

    controller_key: bytes
    key_id: str
    secret: bytes
    nodes: tuple[Identity, ...]


def populate(directory: Path, count: int) -> Population:
    """Make a data directory with a network of `count` nodes and a key that lets in any number."""
    data = DataDir(directory)
    store = Store(open_engine(f"sqlite://{data.database}"))
    controller = Controller(store, data.identity)
    secret = secrets.token_bytes(32)
    key = AccessKey("bench", NETWORK, hash_secret(secret), uses_max=None)
    random = secrets.token_bytes(16)
    controller.commit(
        "bench",
        (EVERYWHERE, NETWORK),
        lambda meshes: [decisions.create_network(meshes, NETWORK, RANGES, {}, random, _now())],
    )
    controller.commit("bench", (NETWORK,), lambda _: [key])
    nodes = tuple(Identity.generate() for _ in range(count))
    mesh = controller.mesh(NETWORK)
    numbered = iter(enumerate(nodes))
    while batch := list(islice(numbered, _BATCH)):
        _join_all(store, mesh, key.id, secret, batch)
    store.close()
    return Population(data.identity.public, key.id, secret, nodes)


def join_request(
    identity: Identity, number: int, key_id: str, secret: bytes
) -> decisions.JoinRequest:
    """What the machine of that number asks when it joins."""
    return decisions.JoinRequest(
        identity=base64.b64encode(identity.public).decode(),
        key_id=key_id,
        secret=secret,
        name=None,
        host_name=f"machine-{number:05}",
        address=None,
        facts=facts(number),
    )


def facts(number: int, listen_port: int = 51821) -> Facts:
    """A machine in a home network of its own, with both families."""
    high, low = divmod(number, 256)
    return Facts(
        wg_key=base64.b64encode(blake2b(b"%d" % number, digest_size=32).digest()).decode(),
        listen_port=listen_port,
        lan=(f"192.168.{high % 256}.{low}/24", f"2001:db8:{high:x}:{low:x}::17/64"),
    )


def _join_all(
    store: Store, mesh: Mesh, key_id: str, secret: bytes, batch: list[tuple[int, Identity]]
) -> None:
    commits: list[Commit] = []
    written: dict[str, Record] = {}
    for number, identity in batch:
        request = join_request(identity, number, key_id, secret)
        records = decisions.join(mesh, request, OBSERVED, _now())
        stored = [replace(r, revision=mesh.revision + 1) for r in records]
        what = describe_change((mesh.find(r), r) for r in stored)
        commit = Commit(
            NETWORK, mesh.revision + 1, secrets.token_hex(8), _now(), f"node:{number}", what
        )
        mesh.apply(commit.revision, commit.id, commit.at, stored)
        commits.append(commit)
        written.update((key_of(r), r) for r in stored)
    store.commit(commits, written.values())


def _now() -> int:
    return int(time.time())
