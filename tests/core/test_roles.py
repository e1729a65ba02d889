"""Decisions about gateways by an admin."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nmk.core import sites
from nmk.core.gateways import (
    MOST_RANGES,
    NO_GATEWAY,
    Egress,
    Exit,
    Gateway,
    Ingress,
    Role,
    parse_role,
)
from nmk.core.mesh import Mesh
from nmk.core.records import Node
from nmk.core.roles import RoleWish, add_role, remove_role
from nmk.errors import BadInput, NmkError, NotFound, RangeOverlaps
from tests.core.made import commit, made_mesh, made_node

LAN, OFFICE, SIX = "192.168.7.0/24", "10.9.0.0/16", "fd00:7::/48"
FULL = Gateway(
    Ingress("vpn.example.org:1"), Egress((OFFICE, LAN), "off", "eth1", 50), Exit("on", "ppp0")
)


def mesh_of(gateway: Gateway = NO_GATEWAY) -> Mesh:
    """n1 with these roles, and n2 without any."""
    nodes = [made_node(1, gateway=gateway, address6="fd20::1"), made_node(2)]
    return made_mesh(*nodes, cidr6="fd20::/64")


def add(mesh: Mesh, role: Role, *ranges: str, **options: Any) -> Node:
    return add_role(mesh, RoleWish("n1", role, ranges, **options))


def after(gateway: Gateway, role: Role, *ranges: str, **options: Any) -> Gateway:
    """The roles of a node that had some, when one was added."""
    return add(mesh_of(gateway), role, *ranges, **options).gateway


def without(gateway: Gateway, role: Role, *ranges: str) -> Gateway:
    return remove_role(mesh_of(gateway), "n1", role, ranges).gateway


def test_a_node_gets_one_role_after_the_other() -> None:
    mesh = mesh_of()
    commit(mesh, add(mesh, "ingress"))
    commit(mesh, add(mesh, "egress", LAN))
    commit(mesh, add(mesh, "exit", nat="off", interface="eth0"))
    assert mesh.by_name["n1"].gateway == Gateway(Ingress(), Egress((LAN,)), Exit("off", "eth0"))
    assert [n.name for n in mesh.gateways.values()] == ["n1"]


def test_a_role_changes_nothing_but_the_role() -> None:
    mesh = mesh_of(FULL)
    node = mesh.by_name["n1"]
    assert replace(add(mesh, "exit", nat="off"), gateway=node.gateway) == node
    assert replace(remove_role(mesh, "n1", "ingress", ()), gateway=node.gateway) == node


def test_ranges_are_added_to_those_there_are() -> None:
    assert after(FULL, "egress", SIX, LAN).ranges == (OFFICE, LAN, SIX)
    assert after(FULL, "egress", SIX).egress == Egress((OFFICE, LAN, SIX), "off", "eth1", 50)


def test_options_are_changed_one_by_one() -> None:
    assert after(FULL, "egress", nat="on").egress == Egress((OFFICE, LAN), "on", "eth1", 50)
    assert after(FULL, "egress", metric="7").egress == Egress((OFFICE, LAN), "off", "eth1", 7)
    assert after(FULL, "egress", interface="br0").egress == Egress((OFFICE, LAN), "off", "br0", 50)
    assert after(FULL, "exit", interface="br0").exit == Exit("on", "br0")
    assert after(FULL, "exit", nat="off").exit == Exit("off", "ppp0")
    assert after(FULL, "ingress").ingress == Ingress("vpn.example.org:1")
    assert after(FULL, "ingress", endpoint="192.0.2.1:2").ingress == Ingress("192.0.2.1:2")


@pytest.mark.parametrize("role", ["ingress", "egress", "exit"])
def test_a_role_that_is_given_once_more_changes_nothing(role: str) -> None:
    assert after(FULL, parse_role(role)) == FULL


def test_a_role_is_taken_away_and_the_others_stay() -> None:
    assert without(FULL, "ingress") == replace(FULL, ingress=None)
    assert without(FULL, "egress") == replace(FULL, egress=None)
    assert without(FULL, "exit") == replace(FULL, exit=None)
    assert without(Gateway(exit=Exit()), "exit") == NO_GATEWAY


def test_some_ranges_are_taken_away_and_the_others_stay() -> None:
    assert without(FULL, "egress", LAN).egress == Egress((OFFICE,), "off", "eth1", 50)
    assert without(FULL, "egress", OFFICE, OFFICE).ranges == (LAN,)


def test_a_gateway_whose_last_range_is_gone_is_none_any_more() -> None:
    assert without(FULL, "egress", LAN, OFFICE) == replace(FULL, egress=None)
    mesh = mesh_of(Gateway(egress=Egress((LAN,))))
    commit(mesh, remove_role(mesh, "n1", "egress", [LAN]))
    assert mesh.gateways == {}


Adding = tuple[Gateway, str, tuple[str, ...], dict[str, object], type[NmkError], str]
REFUSED: list[Adding] = [
    (NO_GATEWAY, "egress", (), {}, BadInput, "needs a range"),
    (NO_GATEWAY, "egress", ("192.168.7.1/24",), {}, BadInput, "192.168.7.1/24"),
    (NO_GATEWAY, "egress", (LAN, "x"), {}, BadInput, "'x'"),
    (NO_GATEWAY, "egress", ("0.0.0.0/0",), {}, BadInput, "0.0.0.0/0"),
    (NO_GATEWAY, "egress", ("10.20.0.0/24",), {}, RangeOverlaps, "10.20.0.0/24"),
    (NO_GATEWAY, "egress", ("10.20.0.128/25",), {}, RangeOverlaps, "10.20.0.128/25"),
    (NO_GATEWAY, "egress", (LAN, "10.0.0.0/8"), {}, RangeOverlaps, "10.0.0.0/8"),
    (NO_GATEWAY, "egress", ("fd20::/48",), {}, RangeOverlaps, "fd20::/48"),
    (NO_GATEWAY, "egress", ("fd20::7/128",), {}, RangeOverlaps, "fd20::7/128"),
    (NO_GATEWAY, "egress", (LAN,), {"nat": "maybe"}, BadInput, "maybe"),
    (NO_GATEWAY, "egress", (LAN,), {"interface": "eth0 accept"}, BadInput, "eth0 accept"),
    (NO_GATEWAY, "egress", (LAN,), {"metric": "x"}, BadInput, "x"),
    (NO_GATEWAY, "egress", (LAN,), {"metric": "0"}, BadInput, "0"),
    (NO_GATEWAY, "egress", (LAN,), {"metric": 0}, BadInput, "0"),
    (NO_GATEWAY, "egress", (LAN,), {"metric": 65536}, BadInput, "65536"),
    (NO_GATEWAY, "egress", (LAN,), {"endpoint": "192.0.2.1:1"}, BadInput, "endpoint"),
    (NO_GATEWAY, "ingress", (LAN,), {}, BadInput, "a range"),
    (NO_GATEWAY, "ingress", (), {"nat": "on"}, BadInput, "nat"),
    (NO_GATEWAY, "ingress", (), {"interface": "eth0"}, BadInput, "interface"),
    (NO_GATEWAY, "ingress", (), {"metric": 5}, BadInput, "metric"),
    (NO_GATEWAY, "ingress", (), {"metric": 0}, BadInput, "metric"),
    (NO_GATEWAY, "ingress", (), {"endpoint": "vpn..example.org"}, BadInput, "vpn..example"),
    (NO_GATEWAY, "exit", ("0.0.0.0/0",), {}, BadInput, "a range"),
    (NO_GATEWAY, "exit", (), {"metric": "5"}, BadInput, "metric"),
    (NO_GATEWAY, "exit", (), {"endpoint": "192.0.2.1:1"}, BadInput, "endpoint"),
    (NO_GATEWAY, "exit", (), {"nat": "ON"}, BadInput, "ON"),
    (
        Gateway(egress=Egress(tuple(f"10.9.{n}.0/24" for n in range(MOST_RANGES)))),
        *("egress", (LAN,), {}, BadInput, str(MOST_RANGES + 1)),
    ),
]


@pytest.mark.parametrize(("before", "role", "ranges", "options", "error", "culprit"), REFUSED)
def test_a_role_that_cannot_be_is_refused_and_changes_nothing(
    before: Gateway,
    role: str,
    ranges: tuple[str, ...],
    options: dict[str, object],
    error: type[NmkError],
    culprit: str,
) -> None:
    mesh = mesh_of(before)
    stored, revision = dict(mesh.nodes), mesh.revision
    with pytest.raises(error) as refusal:
        add(mesh, parse_role(role), *ranges, **options)
    assert type(refusal.value) is error
    assert culprit in refusal.value.message
    assert (mesh.nodes, mesh.revision) == (stored, revision)


@pytest.mark.parametrize(
    ("role", "ranges", "error", "culprit"),
    [
        ("ingress", (), NotFound, "'n1' is no ingress gateway"),
        ("egress", ("10.8.0.0/16",), NotFound, "10.8.0.0/16"),
        ("egress", (OFFICE, "192.168.7.0/25"), NotFound, "192.168.7.0/25"),
        ("egress", ("192.168.7.1/24",), BadInput, "192.168.7.1/24"),
        ("egress", ("10.9.0.0",), BadInput, "10.9.0.0"),
        ("exit", (LAN,), BadInput, "a range"),
    ],
)
def test_what_is_not_there_cannot_be_taken_away(
    role: str, ranges: tuple[str, ...], error: type[NmkError], culprit: str
) -> None:
    mesh = mesh_of(replace(FULL, ingress=None))
    stored = dict(mesh.nodes)
    with pytest.raises(error) as refusal:
        remove_role(mesh, "n1", parse_role(role), ranges)
    assert type(refusal.value) is error
    assert culprit in refusal.value.message
    assert mesh.nodes == stored


def test_a_node_that_there_is_not_is_no_gateway() -> None:
    with pytest.raises(NotFound, match="n9"):
        add_role(mesh_of(), RoleWish("n9", "exit"))
    with pytest.raises(NotFound, match="n9"):
        remove_role(mesh_of(), "n9", "exit", ())


def test_no_network_gets_more_ranges_than_machines_take_in(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sites, "MOST_EGRESS_RANGES", 2)
    mesh = mesh_of(after(NO_GATEWAY, "egress", "192.168.7.0/24"))
    add(mesh, "egress", "192.168.7.0/24")
    add(mesh, "egress", "192.168.8.0/24")
    with pytest.raises(BadInput, match="2 ranges at most"):
        add(mesh, "egress", "192.168.8.0/24", "192.168.9.0/24")


def test_two_nodes_may_route_one_range() -> None:
    mesh = mesh_of(FULL)
    commit(mesh, add_role(mesh, RoleWish("n2", "egress", [LAN], metric=1, same_lan=True)))
    assert mesh.by_name["n2"].gateway.egress == Egress((LAN,), metric=1, same_lan=(LAN,))
    assert mesh.by_name["n1"].gateway == FULL


ranges_ = st.sampled_from([LAN, OFFICE, SIX, "8.8.8.0/24", "192.168.7.0/25"])


@given(st.lists(st.tuples(st.booleans(), st.lists(ranges_, min_size=1, max_size=3))))
def test_ranges_come_and_go_as_they_do_in_a_set(steps: list[tuple[bool, list[str]]]) -> None:
    mesh, model = mesh_of(), set[str]()
    for adds, ranges in steps:
        if adds:
            commit(mesh, add(mesh, "egress", *ranges))
            model |= set(ranges)
        elif set(ranges) <= model:
            commit(mesh, remove_role(mesh, "n1", "egress", ranges))
            model -= set(ranges)
        else:
            with pytest.raises(NotFound):
                remove_role(mesh, "n1", "egress", ranges)
        found = mesh.by_name["n1"].gateway
        assert (set(found.ranges), len(found.ranges)) == (model, len(model))
        assert (found == NO_GATEWAY) == (not model) == (not mesh.gateways)
