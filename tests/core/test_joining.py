"""Decisions about machines: letting them in, taking in what they report."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nmk.core import networks, nodes
from nmk.core.access_keys import MOST_GONE
from nmk.core.mesh import Mesh
from nmk.core.parse import parse_label
from nmk.core.records import AccessKey, Node
from nmk.errors import (
    AddressTaken,
    BadInput,
    KeyExpired,
    KeyRefused,
    KeyRevoked,
    KeyUsedUp,
    NameTaken,
    NmkError,
    NodeDeleted,
    RangeFull,
    StaleSequence,
)
from tests.core.made import (
    KEY_ID,
    NOW,
    commit,
    identity,
    made_client,
    made_facts,
    made_key,
    made_mesh,
    made_node,
    made_request,
)


def join(mesh: Mesh, number: int, **wishes: object) -> Node:
    """The machine let in and stored."""
    records = nodes.join(mesh, made_request(number, **wishes), ("198.51.100.7",), NOW)
    commit(mesh, *records)
    return mesh.nodes[identity(number)]


def test_a_join_makes_a_node_and_uses_the_key_once() -> None:
    mesh = made_mesh(made_key(uses_max=2), cidr6="fd00::/64")
    node, key = nodes.join(mesh, made_request(1), ("198.51.100.7",), NOW)
    assert isinstance(node, Node)
    assert isinstance(key, AccessKey)
    assert node.addresses == ("10.20.0.1", "fd00::1")
    assert (node.name, node.observed, node.key_id) == ("host1", ("198.51.100.7",), key.id)
    assert key.uses == 1


def test_the_same_identity_again_is_the_same_node_and_no_second_use() -> None:
    mesh = made_mesh(made_key(uses_max=1))
    first = join(mesh, 1)
    assert nodes.join(mesh, made_request(1), ("198.51.100.7",), NOW) == []
    commit(mesh, replace(mesh.keys[KEY_ID], deleted_at=NOW))
    again = join(mesh, 1, facts=made_facts(1, port=51900))
    assert (again.name, again.addresses) == (first.name, first.addresses)
    assert mesh.keys[KEY_ID].uses == 1


def test_a_key_lets_in_exactly_as_many_as_it_may() -> None:
    mesh = made_mesh(made_key(uses_max=3))
    for number in (1, 2, 3):
        join(mesh, number)
    with pytest.raises(KeyUsedUp, match="3 of 3"):
        join(mesh, 4)
    assert len(mesh.nodes) == 3


def test_who_joins_and_leaves_for_ever_uses_up_a_key_without_an_end() -> None:
    """What was let in and is still there does not count."""
    uses = MOST_GONE
    mesh = made_mesh(made_key(uses_max=None, uses=uses), made_node(1, key_id=KEY_ID))
    join(mesh, 2)
    [key] = mesh.keys.values()
    commit(mesh, replace(key, uses=uses + 2))
    with pytest.raises(KeyUsedUp, match=f"{MOST_GONE} are gone"):
        join(mesh, 3)
    assert len(mesh.nodes) == 2


@pytest.mark.parametrize(
    ("key", "request_", "error"),
    [
        ({"expires_at": NOW}, {}, KeyExpired),
        ({"deleted_at": NOW - 1}, {}, KeyRevoked),
        ({"uses": 1}, {}, KeyUsedUp),
        ({}, {"secret": bytes(32)}, KeyRefused),
        ({}, {"secret": b""}, KeyRefused),
        ({}, {"key_id": "00000000"}, KeyRefused),
        ({"deleted_at": NOW - 1}, {"secret": bytes(32)}, KeyRefused),
    ],
)
def test_a_key_that_lets_nobody_in(
    key: dict[str, object], request_: dict[str, object], error: type[NmkError]
) -> None:
    with pytest.raises(error) as refusal:
        join(made_mesh(made_key(**key)), 1, **request_)
    assert type(refusal.value) is error


def test_a_key_without_limits_lets_in_whoever_comes() -> None:
    mesh = made_mesh(made_key(uses_max=None, expires_at=None))
    assert len({join(mesh, n).address4 for n in range(1, 20)}) == 19


def test_a_deleted_identity_stays_out() -> None:
    mesh = made_mesh(made_key(uses_max=None))
    join(mesh, 1)
    commit(mesh, nodes.delete_node(mesh, "host1", None, NOW))
    with pytest.raises(NodeDeleted):
        join(mesh, 1)
    commit(mesh, *networks.delete_network(mesh, None, NOW))
    with pytest.raises(KeyRevoked):
        join(mesh, 2)


@pytest.mark.parametrize(
    ("wish", "error", "culprit"),
    [
        ({"name": "n1"}, NameTaken, "n1"),
        ({"name": "No"}, BadInput, "No"),
        ({"address": "10.20.0.1"}, AddressTaken, "10.20.0.1"),
        ({"address": "10.21.0.1"}, BadInput, "10.21.0.1"),
        ({"address": "fd00::1"}, BadInput, "fd00::1"),
        ({"address": "nowhere"}, BadInput, "nowhere"),
        ({"facts": made_facts(1)}, BadInput, made_facts(1).wg_key.replace("+", r"\+")),
    ],
)
def test_a_wish_that_cannot_be(
    wish: dict[str, object], error: type[NmkError], culprit: str
) -> None:
    with pytest.raises(error, match=culprit):
        join(made_mesh(made_key(), made_node(1)), 2, **wish)


def test_wishes_are_granted() -> None:
    node = join(made_mesh(made_key()), 1, name="web", address="10.20.0.77")
    assert (node.name, node.address4) == ("web", "10.20.0.77")


def test_a_full_range_lets_nobody_in() -> None:
    mesh = made_mesh(made_key(uses_max=None), cidr4="10.20.0.0/30")
    join(mesh, 1)
    join(mesh, 2)
    with pytest.raises(RangeFull):
        join(mesh, 3)


def test_no_network_gets_more_nodes_than_machines_take_in(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nodes, "MOST_OTHERS", 2)
    mesh = made_mesh(made_key(uses_max=None), made_client(1))
    join(mesh, 1)
    with pytest.raises(RangeFull, match="2 nodes and ext clients at most"):
        join(mesh, 2)


@given(st.lists(st.sampled_from(["web", "web-2", "x" * 63, "ümlaut", ""]), max_size=12))
def test_host_names_become_names_of_their_own(hosts: list[str]) -> None:
    mesh = made_mesh(made_key(uses_max=None))
    for number, host in enumerate(hosts, start=1):
        parse_label(join(mesh, number, host_name=host).name)
    assert len(mesh.by_name) == len(hosts)


def test_machines_of_one_host_name_are_numbered_in_few_steps() -> None:
    class Names(dict[str, Node]):
        looks = 0

        def __contains__(self, name: object) -> bool:
            self.looks += 1
            return super().__contains__(name)

    mesh = made_mesh(made_key(uses_max=None), cidr4="10.20.0.0/16")
    names = Names({f"debian-{n}": made_node(1) for n in range(2, 5001)}, debian=made_node(1))
    mesh.by_name = names
    assert nodes.free_name(mesh, made_request(1, host_name="debian")) == "debian-5001"
    assert names.looks < 50


def test_names_of_one_host_name_stay_labels_whatever_the_number() -> None:
    long = "x" * 63
    mesh = made_mesh(made_key())
    mesh.by_name = {long: made_node(1)} | {
        f"{'x' * 57}-{n}": made_node(1) for n in range(2, 20_000)
    }
    assert parse_label(nodes.free_name(mesh, made_request(1, host_name=long)))


def test_a_report_changes_the_facts_once() -> None:
    mesh = made_mesh(made_node(1))
    news = made_facts(1, port=51900)
    [node] = nodes.report(mesh, identity(1), 1, news, ())
    assert isinstance(node, Node)
    assert (node.facts, node.seq) == (news, 1)
    commit(mesh, node)
    for seq in (0, 1):
        with pytest.raises(StaleSequence) as stale:
            nodes.report(mesh, identity(1), seq, made_facts(1), ())
        assert stale.value.stored == 1


def test_a_report_of_what_is_known_uses_up_its_number() -> None:
    node = made_node(1, observed=("198.51.100.7",))
    [stored] = nodes.report(made_mesh(node), identity(1), 1, node.facts, node.observed)
    assert stored == replace(node, seq=1, revision=stored.revision)
    with pytest.raises(StaleSequence):
        nodes.report(made_mesh(stored), identity(1), 1, node.facts, node.observed)


@pytest.mark.parametrize("seq", [1 + nodes.FURTHEST_AHEAD + 1, 2**53])
def test_no_number_uses_up_all_others(seq: int) -> None:
    mesh = made_mesh(made_node(1, seq=1))
    with pytest.raises(StaleSequence) as stale:
        nodes.report(mesh, identity(1), seq, made_facts(1), ())
    assert stale.value.stored == 1
    with pytest.raises(StaleSequence):
        nodes.leave(mesh, identity(1), seq, 0)
    [node] = nodes.report(mesh, identity(1), 1 + nodes.FURTHEST_AHEAD, made_facts(1), ())
    assert isinstance(node, Node)
    assert node.seq == 1 + nodes.FURTHEST_AHEAD


def test_a_report_cannot_take_anothers_wireguard_key() -> None:
    mesh = made_mesh(made_node(1), made_node(2))
    with pytest.raises(BadInput, match="another node's"):
        nodes.report(mesh, identity(1), 1, made_facts(2), ())
