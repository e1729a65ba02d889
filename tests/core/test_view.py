"""What agents are told: a delta leads to where a full view is."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nmk.core import networks, nodes
from nmk.core.entries import BLOCK
from nmk.core.mesh import Mesh
from nmk.errors import BadView
from tests.core.made import (
    EPOCH,
    NOW,
    NOWHERE,
    commit,
    commit_id,
    here,
    made_facts,
    made_mesh,
    made_node,
    made_view,
    merged,
    view_of,
)


def test_a_full_view_holds_the_network_the_node_and_its_peers() -> None:
    mesh = made_mesh(made_node(1), made_node(2, endpoint="198.51.100.7:1"))
    view = made_view(mesh)
    assert (view.name, view.addresses) == ("n1", ("10.20.0.1",))
    assert view.cidrs == ("10.20.0.0/24",)
    assert view.settings["mtu"] == 1420
    [peer] = view.peers.values()
    assert (peer.name, peer.addresses, peer.static) == ("n2", ("10.20.0.2",), "198.51.100.7:1")


def test_who_is_up_to_date_is_told_only_that() -> None:
    mesh = made_mesh(made_node(1))
    assert view_of(mesh, mesh.by_name["n1"], here(mesh)) == {"at": [1, commit_id(1)]}


@pytest.mark.parametrize(
    "at",
    [
        NOWHERE,
        ("", 2, commit_id(2)),
        ("ffffffffffffffff", 2, commit_id(2)),
        (EPOCH, 2, "of another life"),
        (EPOCH, 2, ""),
        (EPOCH, 99, commit_id(99)),
        (EPOCH, 0, ""),
    ],
)
def test_who_comes_from_another_past_gets_a_full_view(at: tuple[str, int, str]) -> None:
    mesh = made_mesh(made_node(1))
    commit(mesh, made_node(2))
    commit(mesh, made_node(3))
    reply = view_of(mesh, mesh.by_name["n1"], at)
    assert reply["full"]
    assert len(merged(None, reply).peers) == 2


def test_a_delta_holds_what_changed_and_no_more() -> None:
    mesh = made_mesh(*(made_node(n) for n in range(1, 20)))
    before = here(mesh)
    commit(mesh, made_node(2, name="web"))
    commit(mesh, made_node(3, deleted_at=NOW))
    commit(mesh, made_node(4, seq=7))  # nothing that a peer can see
    reply = view_of(mesh, mesh.by_name["n1"], before)
    assert not reply["full"]
    assert [e["name"] for block in reply["peers"] for e in block] == ["web"]
    assert reply["gone"] == [made_node(3).id]


changes = st.lists(
    st.tuples(
        st.sampled_from(["join", "report", "rename", "move", "delete", "settings"]),
        st.integers(1, 60),
        st.integers(0, 99),
    ),
    min_size=1,
    max_size=60,
)


@given(changes, st.data())
def test_a_delta_applied_to_an_old_view_equals_a_full_view(
    steps: list[tuple[str, int, int]], data: st.DataObject
) -> None:
    mesh = made_mesh(made_node(250))
    me = made_node(250)
    stand_at = data.draw(st.integers(0, len(steps)), label="the agent's last check-in")
    old, at = merged(None, view_of(mesh, me)), here(mesh)
    for number, step in enumerate(steps):
        if number == stand_at:
            old, at = merged(None, view_of(mesh, me)), here(mesh)
        change(mesh, *step)
    full = merged(None, view_of(mesh, me))
    reply = view_of(mesh, me, at)
    assert ("full" not in reply) == (at == here(mesh))
    assert (merged(old, reply) if "full" in reply else old) == full
    assert len(full.peers) == len(mesh.nodes) - 1
    ids = [e["id"] for block in view_of(mesh, me)["peers"] for e in block]
    assert len(ids) == len(set(ids))


def change(mesh: Mesh, kind: str, number: int, value: int) -> None:
    """One commit of this kind; nothing where it makes no sense."""
    node = mesh.nodes.get(made_node(number).identity)
    if kind == "settings":
        commit(mesh, networks.set_network(mesh, {"mtu": 1300 + value}, None))
    elif kind == "join" and node is None and made_node(number).identity not in mesh.deleted:
        commit(mesh, made_node(number))
    elif node is None:
        return
    elif kind == "report":
        facts = made_facts(number, port=51000 + value)
        commit(mesh, *nodes.report(mesh, node.identity, node.seq + 1, facts, ()))
    elif kind == "rename" and f"r{value}" not in mesh.by_name:
        commit(mesh, nodes.set_node(mesh, node.name, {"name": f"r{value}"}, None))
    elif kind == "move" and f"10.20.0.{100 + value}" not in {
        n.address4 for n in mesh.nodes.values()
    }:
        wish = {"address": f"10.20.0.{100 + value}"}
        commit(mesh, nodes.set_node(mesh, node.name, wish, None))
    elif kind == "delete":
        commit(mesh, nodes.delete_node(mesh, node.name, None, NOW))


def test_views_stay_whole_over_many_blocks_of_entries() -> None:
    """Enough nodes for several blocks, most of them gone again, so that blocks are merged."""
    nodes = [made_node(n, address4=f"10.20.{n // 250}.{n % 250 + 1}") for n in range(BLOCK * 4)]
    mesh = made_mesh(*nodes, cidr4="10.20.0.0/16")
    me = mesh.by_name["n1"]
    commit(mesh, *(replace(n, deleted_at=NOW) for i, n in enumerate(nodes) if i % 7 > 1))
    left = {f"n{n}" for n in range(BLOCK * 4) if n % 7 <= 1} - {"n1"}
    assert {p.name for p in merged(None, view_of(mesh, me)).peers.values()} == left
    at = here(mesh)
    commit(mesh, made_node(BLOCK * 4, address4="10.20.9.9"))
    assert view_of(mesh, me, at)["peers"] == [[json.loads(mesh.entries.since(at[1])[0])]]


def test_a_delta_with_no_view_to_add_to_is_refused() -> None:
    mesh = made_mesh(made_node(1), made_node(2))
    before = here(mesh)
    commit(mesh, made_node(3))
    delta = view_of(mesh, mesh.by_name["n1"], before)
    with pytest.raises(BadView):
        merged(None, delta)
