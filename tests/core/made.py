"""Networks, nodes and requests as tests need them, made from small numbers."""

from __future__ import annotations

import base64
import json
import zlib
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from nmk.core.gateways import Exit, Gateway, Ingress, make_egress
from nmk.core.mesh import Mesh
from nmk.core.peers import View, merge_view, read_reply
from nmk.core.records import (
    AccessKey,
    ExtClient,
    Facts,
    Issue,
    JoinRequest,
    Network,
    Node,
    Record,
    hash_secret,
)
from nmk.core.view import pack_view

NOW = 1_700_000_000
SECRET = bytes(range(32))
KEY_ID = "4f2a91c3"
EPOCH = "0011223344556677"
NOWHERE = ("", 0, "")
INGRESS = Gateway(ingress=Ingress())
EXIT = Gateway(exit=Exit())
Json = dict[str, Any]
At = tuple[str, int, str]


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


def made_client(number: int, **fields: object) -> ExtClient:
    """An ext client of n1, whose addresses end where those of nodes do not."""
    values: dict[str, object] = {
        "id": f"{number:016x}",
        "network": "home",
        "name": f"c{number}",
        "gateway": identity(1),
        "public_key": key32(number, kind=9),
        "address4": f"10.20.0.{200 + number}",
        "address6": None,
        "issue": Issue((), ""),
        "created_at": NOW,
    }
    return ExtClient(**{**values, **fields})  # type: ignore[arg-type]  # as above


def made_egress(*ranges: str, metric: int = 100, nat: str = "auto") -> Gateway:
    return Gateway(egress=make_egress(ranges, nat, None, metric))


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
    revision = mesh.revision + 1
    stored = [replace(r, revision=revision) for r in records]
    mesh.apply(revision, commit_id(revision), at, stored)


def commit_id(revision: int) -> str:
    return f"commit-{revision}"


def here(mesh: Mesh) -> At:
    """Where an agent stands that is up to date."""
    return EPOCH, mesh.revision, mesh.commit_id


def view_of(mesh: Mesh, node: Node, at: At = NOWHERE) -> Json:
    """The reply's JSON, unpacked by the plainest means."""
    packed = pack_view(mesh, node, EPOCH, at)
    body = packed[1:] if packed[:1] == b"\0" else zlib.decompress(packed[1:], -zlib.MAX_WBITS)
    reply: Json = json.loads(body)
    return reply


def made_view(mesh: Mesh, name: str = "n1") -> View:
    """What the agent of that node makes of a full view."""
    return merged(None, view_of(mesh, mesh.by_name[name]))


def merged(old: View | None, reply: Json) -> View:
    """What an agent of home makes of a view and a reply."""
    return merge_view(old, read_reply(json.dumps(reply).encode()), "home")


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
