"""Decisions about networks, nodes and keys by an admin."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nmk.core import access_keys, networks, nodes
from nmk.core.mesh import Mesh
from nmk.core.records import AccessKey, Network, Node
from nmk.errors import (
    AddressTaken,
    BadInput,
    NameTaken,
    NmkError,
    NotFound,
    RangeFull,
    RangeOverlaps,
    Stale,
)
from tests.core.made import KEY_ID, NOW, commit, made_key, made_mesh, made_node

RANDOM = bytes(range(16))


def create(name: str, *cidrs: str, meshes: dict[str, Mesh] | None = None) -> Network:
    return networks.create_network(meshes or {}, name, list(cidrs), {}, RANDOM, NOW)


def home(**ranges: str) -> dict[str, Mesh]:
    return {"home": made_mesh(**ranges)}


def test_a_network_has_the_ranges_asked_for() -> None:
    network = create("home", "fd20::/64", "10.20.0.0/16")
    assert (network.cidr4, network.cidr6) == ("10.20.0.0/16", "fd20::/64")
    assert (network.name, network.created_at) == ("home", NOW)


@given(st.binary(min_size=16, max_size=16))
def test_ranges_that_are_picked_are_private_and_free(random: bytes) -> None:
    meshes = home(cidr4="10.0.0.0/9", cidr6="fd00::/16")
    try:
        network = networks.create_network(meshes, "lab", [], {}, random, NOW)
    except RangeOverlaps:
        assert random[1] == 0  # an IPv6 range picked inside fd00::/16
        return
    assert network.cidr4
    assert network.cidr6
    assert ip_network(network.cidr4).subnet_of(ip_network("10.128.0.0/9"))  # type: ignore[arg-type]
    assert ip_network(network.cidr6).subnet_of(ip_network("fd00::/8"))  # type: ignore[arg-type]


def test_no_range_is_picked_when_all_of_10_is_taken() -> None:
    with pytest.raises(RangeOverlaps):
        create("lab", meshes=home(cidr4="10.0.0.0/8"))


@pytest.mark.parametrize(
    ("cidrs", "hosts", "refused"),
    [
        (["203.0.113.0/24"], ["203.0.113.2"], True),
        (["203.0.113.0/24", "fd20::/64"], ["203.0.113.2", "fd20::2"], True),
        (["203.0.113.0/24"], ["203.0.113.2", "198.51.100.2"], False),
        (["203.0.113.0/24"], ["203.0.113.2", "vpn.example.org"], False),
        (["10.20.0.0/16"], ["203.0.113.2"], False),
        (["10.20.0.0/16"], [], False),
    ],
)
def test_a_network_that_holds_its_controller_is_refused(
    cidrs: list[str], hosts: list[str], refused: bool
) -> None:
    """Nodes would look for it in the mesh."""

    def make() -> Network:
        return networks.create_network({}, "home", cidrs, {}, RANDOM, NOW, hosts)

    if refused:
        with pytest.raises(BadInput, match=hosts[0]):
            make()
    else:
        assert make().name == "home"


def test_a_range_that_is_picked_does_not_hold_the_controller() -> None:
    free = create("home").cidr4
    assert free
    own = free.replace(".0.0/16", ".7.7")
    network = networks.create_network({}, "home", [], {}, RANDOM, NOW, [own])
    assert network.cidr4 not in {None, free}


@pytest.mark.parametrize(
    ("name", "cidrs", "error", "culprit"),
    [
        ("home", [], NameTaken, "home"),
        ("Home", [], BadInput, "Home"),
        ("lab", ["10.20.0.0/16"], RangeOverlaps, "10.20.0.0/16"),
        ("lab", ["10.20.0.128/25"], RangeOverlaps, "home"),
        ("lab", ["fd00::/64"], RangeOverlaps, "fd00::/64"),
        ("lab", ["10.1.0.0/31"], BadInput, "10.1.0.0/31"),
        ("lab", ["10.1.2.3/16"], BadInput, "10.1.2.3/16"),
        ("lab", ["10.1.0.0/16", "10.2.0.0/16"], BadInput, "10.2.0.0/16"),
    ],
)
def test_a_network_that_cannot_be(
    name: str, cidrs: list[str], error: type[NmkError], culprit: str
) -> None:
    with pytest.raises(error, match=culprit):
        create(name, *cidrs, meshes=home(cidr4="10.20.0.0/24", cidr6="fd00::/48"))


def test_a_deleted_network_leaves_its_name_and_range() -> None:
    mesh = made_mesh(made_node(1), made_key())
    gone = networks.delete_network(mesh, None, NOW)
    assert [type(r) for r in gone] == [Network, Node, AccessKey]
    assert all(r.deleted_at == NOW for r in gone)
    commit(mesh, *gone)
    assert create("home", "10.20.0.0/24", meshes={"home": mesh}).deleted_at is None
    with pytest.raises(NotFound, match="home"):
        networks.live_network(mesh)


def test_settings_are_added_to_those_that_were_set() -> None:
    mesh = made_mesh()
    commit(mesh, networks.set_network(mesh, {"mtu": "1380"}, None))
    changed = networks.set_network(mesh, {"keepalive": "0"}, None)
    assert changed.settings == {"mtu": 1380, "keepalive": 0}


@pytest.mark.parametrize(
    ("name", "value"),
    [("mtu", "1279"), ("mtu", "9001"), ("keepalive", "9"), ("interval", "0"), ("colour", "red")],
)
def test_a_setting_that_cannot_be(name: str, value: str) -> None:
    with pytest.raises(BadInput) as refusal:
        networks.set_network(made_mesh(), {name: value}, None)
    assert name in refusal.value.message


def test_what_was_seen_at_an_older_revision_is_not_changed() -> None:
    mesh = made_mesh(made_node(1), made_key())
    commit(
        mesh,
        nodes.set_node(mesh, "n1", {"name": "web"}, 1),
        networks.set_network(mesh, {"mtu": 1400}, 1),
        *mesh.keys.values(),
    )
    for edit in (
        lambda: nodes.set_node(mesh, "web", {"name": "www"}, 1),
        lambda: nodes.delete_node(mesh, "web", 1, NOW),
        lambda: networks.set_network(mesh, {"mtu": 1400}, 1),
        lambda: networks.delete_network(mesh, 1, NOW),
        lambda: access_keys.delete_key(mesh, KEY_ID, 1, NOW),
    ):
        with pytest.raises(Stale, match="revision"):
            edit()


def test_a_node_is_renamed_moved_and_pinned_in_one_edit() -> None:
    mesh = made_mesh(made_node(1))
    wishes = {"name": "web", "address": "10.20.0.9", "endpoint": "198.51.100.7:1"}
    node = nodes.set_node(mesh, "n1", wishes, None)
    assert (node.name, node.address4, node.endpoint) == ("web", "10.20.0.9", "198.51.100.7:1")
    commit(mesh, node)
    assert nodes.set_node(mesh, "web", {"endpoint": ""}, None).endpoint is None
    assert list(mesh.by_name) == ["web"]


def test_a_node_may_be_given_what_it_has() -> None:
    node = made_node(1, address6="fd00::1")
    mesh = made_mesh(node, cidr6="fd00::/64")
    same = {"name": "n1", "address": "FD00:0::1"}
    assert nodes.set_node(mesh, "n1", same, None) == replace(node, revision=1)


def test_an_address_of_one_family_needs_no_free_one_of_the_other() -> None:
    two = [made_node(n, address6=f"fd00::{n}") for n in (1, 2)]
    mesh = made_mesh(*two, cidr4="10.20.0.0/30", cidr6="fd00::/64")
    moved = nodes.set_node(mesh, "n1", {"address": "fd00::9"}, None)
    assert moved.addresses == ("10.20.0.1", "fd00::9")
    with pytest.raises(RangeFull):
        nodes.free_addresses(mesh, None, NOW)


@pytest.mark.parametrize(
    ("wish", "error", "culprit"),
    [
        ({"name": "n2"}, NameTaken, "n2"),
        ({"name": "N2"}, BadInput, "N2"),
        ({"address": "10.20.0.2"}, AddressTaken, "10.20.0.2"),
        ({"address": "10.21.0.2"}, BadInput, "10.21.0.2"),
        ({"address": "10.20.0.255"}, BadInput, "10.20.0.255"),
        ({"address": "fd00::1"}, BadInput, "no IPv6 range"),
        ({"address": "x"}, BadInput, "x"),
        ({"endpoint": "somewhere"}, BadInput, "somewhere"),
        ({"colour": "red"}, BadInput, "colour"),
    ],
)
def test_a_wish_for_a_node_that_cannot_be(
    wish: dict[str, str], error: type[NmkError], culprit: str
) -> None:
    with pytest.raises(error, match=culprit):
        nodes.set_node(made_mesh(made_node(1), made_node(2)), "n1", wish, None)


def test_what_is_not_there_is_not_found() -> None:
    mesh = made_mesh(made_key(deleted_at=NOW))
    for look in (
        lambda: nodes.find_node(mesh, "web"),
        lambda: access_keys.find_key(mesh, KEY_ID),
        lambda: networks.live_network(Mesh("lab")),
    ):
        with pytest.raises(NotFound):
            look()
