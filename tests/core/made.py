"""Networks, nodes and requests as tests need them, made from small numbers."""

from __future__ import annotations

import base64
from collections.abc import Sequence

from nmk.core.decisions import JoinRequest
from nmk.core.mesh import Mesh
from nmk.core.records import AccessKey, Facts, Network, Node, Record, hash_secret

NOW = 1_700_000_000
SECRET = bytes(range(32))
KEY_ID = "4f2a91c3"


def key32(number: int, kind: int = 7) -> str:
    """32 bytes in base64, different for each number and kind."""
    return base64.b64encode(bytes([kind]) + number.to_bytes(31, "big")).decode()


def identity(number: int) -> str:
    return key32(number, kind=1)


def made_facts(number: int, port: int = 51821, lan: Sequence[str] = ()) -> Facts:
    return Facts(wg_key=key32(number), listen_port=port, lan=tuple(lan))


def made_node(number: int, **fields: object) -> Node:
    values: dict[str, object] = {
        "identity": identity(number),
        "network": "home",
        "name": f"n{number}",
        "address4": f"10.20.0.{number}",
        "address6": None,
        "facts": made_facts(number),
        "created_at": NOW,
    }
    return Node(**{**values, **fields})  # type: ignore[arg-type]  # the fields' own types differ


def made_key(**fields: object) -> AccessKey:
    values: dict[str, object] = {
        "id": KEY_ID,
        "network": "home",
        "secret_hash": hash_secret(SECRET),
        "created_at": NOW,
    }
    return AccessKey(**{**values, **fields})  # type: ignore[arg-type]  # as above


def made_mesh(
    *records: Record, cidr4: str | None = "10.20.0.0/24", cidr6: str | None = None
) -> Mesh:
    """A mesh named home, at revision 1, with the records in it."""
    mesh = Mesh("home")
    commit(mesh, Network("home", cidr4, cidr6, revision=1), *records)
    return mesh


def commit(mesh: Mesh, *records: Record, at: int = NOW) -> None:
    """What the controller does once the records are stored."""
    from dataclasses import replace

    revision = mesh.revision + 1
    stored = [replace(r, revision=revision) for r in records]
    mesh.apply(revision, commit_id(revision), at, stored)


def commit_id(revision: int) -> str:
    return f"commit-{revision}"


def made_request(number: int, **fields: object) -> JoinRequest:
    values: dict[str, object] = {
        "identity": identity(number),
        "key_id": KEY_ID,
        "secret": SECRET,
        "name": None,
        "host_name": f"host{number}",
        "address": None,
        "facts": made_facts(number),
    }
    return JoinRequest(**{**values, **fields})  # type: ignore[arg-type]  # as above
