"""Changes as the tests make them: a network `home` and a key whose uses are counted."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable
from dataclasses import replace
from typing import TypeVar

from nmk.core.records import AccessKey, ExtClient, Facts, Issue, Network, Node, Record
from nmk.store.engine import Collision
from nmk.store.store import Commit, Store
from tests.lab.polling import patient

HOME = Network("home", "10.1.0.0/16", None, {"keepalive": 25}, created_at=1)
KEY = AccessKey("key", "home", "hash", uses_max=None)
DEADLINE_SECONDS = patient(60)

Opener = Callable[[str], Store]

R = TypeVar("R", bound=Record)


def make_node(number: int) -> Node:
    """A node that shares nothing with those of other numbers."""
    facts = Facts(f"wg{number}", 51820)
    return Node(f"identity{number}", "home", f"node{number}", f"10.1.0.{number}", None, facts)


def make_client(number: int, gateway: Node) -> ExtClient:
    """An ext client that shares nothing with those of other numbers, but for its gateway."""
    return ExtClient(
        id=f"client{number}",
        network="home",
        name=f"phone{number}",
        gateway=gateway.identity,
        public_key=f"key{number}",
        address4=f"10.1.1.{number}",
        address6=f"fd00::1:{number}",
        issue=Issue((f"10.1.1.{number}",), gateway.facts.wg_key),
    )


def change(store: Store, revision: int, *records: Record, commit_id: str | None = None) -> str:
    """Commit records as a revision of `home`; the commit's id. Raises Collision."""
    made = Commit(
        "home", revision, commit_id or secrets.token_hex(8), 1000 + revision, "test", "[]"
    )
    store.commit([made], [replace(record, revision=revision) for record in records])
    return made.id


def begin(store: Store) -> None:
    """The first revision: the network and its key."""
    change(store, 1, HOME, KEY)


def stored(store: Store, kind: type[R]) -> list[R]:
    """All records of a kind."""
    return [record for record in store.records_since("home", 0) if isinstance(record, kind)]


def use_key(store: Store) -> str:
    """Count one more use of the key, however many others do so; the commit's id."""
    deadline = time.monotonic() + DEADLINE_SECONDS
    while True:
        base = store.heads()["home"].revision
        [key] = stored(store, AccessKey)
        if key.revision > base:  # another commit came between the two reads
            continue
        try:
            return change(store, base + 1, replace(key, uses=key.uses + 1))
        except Collision:
            assert time.monotonic() < deadline
