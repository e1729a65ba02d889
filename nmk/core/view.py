"""What one node must know, cut from a mesh as the bytes that travel.

The reply to a check-in is one JSON object, packed as `wire.envelope` opens it: a flag byte, then
plain JSON or a raw deflate stream.
"""

from __future__ import annotations

import json

from nmk.core.entries import deflate
from nmk.core.gateways import gateway_json
from nmk.core.mesh import Mesh
from nmk.core.peers import MOST_OTHERS
from nmk.core.records import Node

PLAIN, DEFLATED = b"\0", b"\1"
_WORTH_DEFLATING = 1024  # bytes; what is smaller fits in one packet anyway


def pack(body: bytes) -> bytes:
    """JSON bytes as they are sealed: deflated where that pays."""
    if len(body) < _WORTH_DEFLATING:
        return PLAIN + body
    return DEFLATED + deflate(body, last=True)


def pack_view(
    mesh: Mesh, node: Node, epoch: str, at: tuple[str, int, str], **more: object
) -> bytes:
    """The view of `node`, as much of it as an agent that stands at `at` does not have yet.

    `at` is the agent's (epoch, revision, commit id). Where these name no point in this mesh's
    history the reply is a full view; where they name the present, it says so and no more. `more`
    goes into the reply as it is.
    """
    here = (epoch, mesh.revision, mesh.commit_id)
    if at == here:
        return pack(_json({"at": here[1:], **more}))
    known = is_known(mesh, epoch, at)
    head: dict[str, object] = {
        "epoch": epoch,
        "at": here[1:],
        "full": not known,
        "network": network_facts(mesh),
        "self": node_facts(node),
        **more,
    }
    if known:
        head["gone"] = mesh.gone_since(at[1])
        peers = b",".join(mesh.entries.since(at[1]))
        clients = b",".join(mesh.client_entries.since(at[1]))
        return pack(_json(head)[:-1] + b',"peers":[[%b]],"clients":[[%b]]}' % (peers, clients))
    return b"".join(
        [
            DEFLATED,
            deflate(_json(head)[:-1] + b',"peers":[[]'),
            *mesh.entries.deflated(),
            deflate(b'],"clients":[[]'),
            *mesh.client_entries.deflated(),
            deflate(b"]}", last=True),
        ]
    )


def is_known(mesh: Mesh, epoch: str, at: tuple[str, int, str]) -> bool:
    """Whether these name a point in this mesh's history, from which a delta leads on.

    Not so where more have gone since than agents take in at once.
    """
    is_point = at[0] == epoch and at[2] != "" and mesh.commits.get(at[1]) == at[2]
    return is_point and len(mesh.gone_since(at[1])) <= MOST_OTHERS


def pack_welcome(mesh: Mesh, node: Node, epoch: str, *, again: bool) -> bytes:
    """The reply to a join: the node, and no peers yet. Those come with its first check-in.

    `again`: it was a node before, and nothing of this join was taken in.
    """
    return pack(
        _json(
            {
                "epoch": epoch,
                "at": (0, ""),
                "full": True,
                "network": network_facts(mesh),
                "self": node_facts(node),
                "again": again,
                "peers": [],
                "clients": [],
            }
        )
    )


def network_facts(mesh: Mesh) -> dict[str, object]:
    """The network as every node is told of it."""
    network = mesh.network
    cidrs = [c for c in (network.cidr4, network.cidr6) if c] if network else []
    return {"name": mesh.name, "cidrs": cidrs, **mesh.settings}


def node_facts(node: Node) -> dict[str, object]:
    """A node as it is told of itself. `seq` is the last report that the controller took in."""
    return {
        "id": node.id,
        "name": node.name,
        "addresses": node.addresses,
        "observed": node.observed,
        "gateway": gateway_json(node.playable),
        "seq": node.seq,
    }


def _json(value: object) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()
