"""The indexes of a mesh stay right, in whatever portions commits arrive."""

from __future__ import annotations

from dataclasses import replace

from nmk.core.mesh import KEPT_COMMITS, Mesh
from nmk.core.records import Network
from tests.core.made import NOW, commit, commit_id, made_facts, made_key, made_mesh, made_node


def test_a_tombstone_clears_every_index_but_is_remembered() -> None:
    mesh = made_mesh(made_node(1), made_key())
    commit(mesh, made_node(1, deleted_at=NOW))
    assert (mesh.nodes, mesh.by_name, mesh.by_wg_key) == ({}, {}, {})
    assert list(mesh.deleted) == [made_node(1).identity]
    assert mesh.find(made_node(1)) == mesh.deleted[made_node(1).identity]


def test_a_node_that_moved_is_only_where_it_is_now() -> None:
    mesh = made_mesh(made_node(1))
    commit(mesh, made_node(1, name="web", address4="10.20.0.9", facts=made_facts(77)))
    assert list(mesh.by_name) == ["web"]
    assert list(mesh.by_wg_key) == [made_facts(77).wg_key]
    assert mesh.pools[4].check("10.20.0.1") == "10.20.0.1"


def test_names_keys_and_addresses_that_changed_hands_within_one_refresh() -> None:
    """A replica that was away reads each row once, as it is now, in the order of revisions.

    Here n1 gave its name, key and address to n2 and was then written once more.
    """
    mesh = made_mesh(made_node(1), made_node(2))
    second = made_node(2, name="n1", facts=made_facts(1), address4="10.20.0.1", revision=3)
    first = made_node(1, name="old", facts=made_facts(9), address4="10.20.0.9", revision=4)
    mesh.apply(4, commit_id(4), NOW, [second, first])
    assert mesh.by_name == {"n1": second, "old": first}
    assert mesh.by_wg_key == {made_facts(1).wg_key: second, made_facts(9).wg_key: first}
    pool = mesh.pools[4]
    assert sorted(pool._taken) == [1, 9]


def test_only_so_many_commits_are_remembered() -> None:
    mesh = Mesh("home")
    for revision in range(1, KEPT_COMMITS + 3):
        mesh.apply(revision, commit_id(revision), NOW, ())
    assert len(mesh.commits) == KEPT_COMMITS
    assert mesh.commit_id == commit_id(KEPT_COMMITS + 2)
    assert commit_id(2) not in mesh.commits.values()


def test_a_network_made_anew_has_the_range_it_was_made_with() -> None:
    mesh = made_mesh(made_node(1))
    network = mesh.network
    assert network
    commit(mesh, replace(network, deleted_at=NOW), made_node(1, deleted_at=NOW))
    commit(mesh, Network("home", "10.30.0.0/24", None))
    assert mesh.pools[4].next() == "10.30.0.1"
    again = Mesh("home")
    again.apply(
        3, commit_id(3), NOW, [*([mesh.network] if mesh.network else []), *mesh.deleted.values()]
    )
    assert again.pools[4].next() == "10.30.0.1"
