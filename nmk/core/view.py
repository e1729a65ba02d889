"""What one node must know, cut from a mesh as the bytes that travel.

The reply to a check-in is one JSON object. Entries go into it as the bytes they are, so that a
view costs a join of byte strings, whatever the number of viewers.
"""

from __future__ import annotations

import json

from nmk.core.mesh import Mesh
from nmk.core.records import Node


def encode_reply(mesh: Mesh, node: Node, epoch: str, at: tuple[str, int, str]) -> bytes:
    """The view of `node`, as much of it as an agent that stands at `at` does not have yet.

    `at` is the agent's (epoch, revision, commit id). Where these name no point in this mesh's
    history the reply is a full view; where they name the present, it says so and no more.
    """
    here = (epoch, mesh.revision, mesh.commit_id)
    if at == here:
        return _json({"at": here[1:]})
    known = at[0] == epoch and at[2] != "" and mesh.commits.get(at[1]) == at[2]
    head: dict[str, object] = {
        "epoch": epoch,
        "at": here[1:],
        "full": not known,
        "network": network_facts(mesh),
        "self": node_facts(node),
    }
    if known:
        entries = mesh.entries_since(at[1])
        head["gone"] = mesh.gone_since(at[1])
    else:
        entries = list(mesh.entries())
    return _json(head)[:-1] + b',"peers":[' + b",".join(entries) + b"]}"


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
        "seq": node.seq,
    }


def _json(value: object) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()
