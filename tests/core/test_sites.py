"""Who may lead to which range: two sites of one range, one LAN with two gateways, routers."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_network
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nmk.core.ext_clients import NewClient, create_client, set_client
from nmk.core.gateways import NO_GATEWAY, Egress, Gateway, Ingress, gateway_json, parse_gateway
from nmk.core.hubs import HubPeer, take_over_hub
from nmk.core.mesh import Mesh
from nmk.core.nft_text import Own
from nmk.core.parse import overlap
from nmk.core.peers import View
from nmk.core.records import ExtClient, Issue, Node, Record
from nmk.core.roles import RoleWish, add_role, remove_role
from nmk.core.routes import Route, RouteWishes, Routing, compile_routing
from nmk.core.ruleset import render_ruleset
from nmk.core.sites import unsaid, ways_to_say
from nmk.errors import BadInput, NmkError, RangeOverlaps
from tests.core.made import (
    NOW,
    commit,
    key32,
    made_client,
    made_facts,
    made_mesh,
    made_node,
    made_view,
)

LAN, SEEN, SIX, SEEN6 = "192.168.1.0/24", "10.201.1.0/24", "fd00:1::/64", "fd77:1::/64"
MAPPED = Gateway(egress=Egress((SEEN,), mapped={SEEN: LAN}))
PLAIN = Gateway(egress=Egress((LAN,)))


def mesh_of(*gateways: Gateway, **fields: Any) -> Mesh:
    """n1 with the first roles, n2 with the second, ... and one more without any."""
    nodes = [
        made_node(number, gateway=gateway, address6=f"fd20::{number}", **fields)
        for number, gateway in enumerate((*gateways, NO_GATEWAY), 1)
    ]
    return made_mesh(*nodes, cidr6="fd20::/64")


def add(mesh: Mesh, node: str, *ranges: str, **options: Any) -> Egress:
    """A node gets ranges; the egress gateway that it is then."""
    made = add_role(mesh, RoleWish(node, "egress", ranges, **options))
    commit(mesh, made)
    assert made.gateway.egress
    return made.gateway.egress


def refusal(mesh: Mesh, node: str, *ranges: str, **options: Any) -> NmkError:
    with pytest.raises((BadInput, RangeOverlaps)) as caught:
        add_role(mesh, RoleWish(node, "egress", ranges, **options))
    return caught.value


# Mapped 1:1


@pytest.mark.parametrize(("lan", "seen"), [(LAN, SEEN), (SIX, SEEN6)])
def test_a_range_is_seen_as_another(lan: str, seen: str) -> None:
    egress = add(mesh_of(), "n1", lan, seen_as=seen)
    assert (egress.ranges, egress.mapped, egress.lans) == ((seen,), {seen: lan}, (lan,))


def test_several_are_mapped_and_some_are_not() -> None:
    mesh = mesh_of()
    add(mesh, "n1", LAN, seen_as=SEEN)
    add(mesh, "n1", SIX, seen_as=SEEN6)
    egress = add(mesh, "n1", "10.9.0.0/16", metric=7)
    assert egress.ranges == (SEEN, "10.9.0.0/16", SEEN6)
    assert egress.lans == (LAN, "10.9.0.0/16", SIX)
    assert egress.metric == 7


def test_a_range_that_was_routed_as_it_is_is_mapped_and_back() -> None:
    mesh = mesh_of(PLAIN)
    assert add(mesh, "n1", LAN, seen_as=SEEN).ranges == (SEEN,)
    assert add(mesh, "n1", LAN, metric=9).mapped == {SEEN: LAN}  # named, and not undone by it
    assert add(mesh, "n1", SEEN, metric=9).mapped == {SEEN: LAN}
    assert add(mesh, "n1", LAN, seen_as="10.202.0.0/24").ranges == ("10.202.0.0/24",)
    assert add(mesh, "n1", LAN, seen_as="") == Egress((LAN,), metric=9)
    assert add(mesh, "n1", LAN, seen_as=LAN) == Egress((LAN,), metric=9)


def test_two_offices_of_one_range() -> None:
    mesh = mesh_of(PLAIN)
    assert refusal(mesh, "n2", LAN).hint == (
        f"if that is the same LAN: nmk gateway add -n home n2 egress {LAN} --same-lan; "
        f"else map both: nmk gateway add -n home n1 egress {LAN} --as 10.201.1.0/24 && "
        f"nmk gateway add -n home n2 egress {LAN} --as 10.201.0.0/24"
    )
    assert add(mesh, "n2", LAN, seen_as="10.201.0.0/24").lans == (LAN,)
    assert add(mesh, "n1", LAN, seen_as="10.201.1.0/24").lans == (LAN,)


BAD = [
    ((LAN,), {"seen_as": "10.201.1.0/25"}, "size"),
    ((LAN,), {"seen_as": "fd77::/64"}, "family"),
    ((LAN,), {"seen_as": "10.201.1.1/24"}, "host bits"),
    ((LAN,), {"seen_as": "nonsense"}, "nonsense"),
    ((LAN,), {"seen_as": "127.0.0.0/24"}, "127.0.0.0/24"),
    (("169.254.0.0/15",), {"seen_as": "10.200.0.0/15"}, "holds addresses of 169.254.0.0/16"),
    (("10.200.0.0/15",), {"seen_as": "169.254.0.0/15"}, "holds addresses of 169.254.0.0/16"),
    (("169.0.0.0/8",), {}, "holds addresses of 169.254.0.0/16"),
    (("168.63.129.16/32",), {}, "its own cloud provider"),
    (("fd00:ec2::254/128",), {}, "its own cloud provider"),
    (("100.100.100.200/32",), {"seen_as": "10.9.9.9/32"}, "its own cloud provider"),
    ((LAN,), {"seen_as": "10.20.0.0/24"}, "the range of home itself"),
    (("10.20.0.0/24",), {"seen_as": SEEN}, "the range of home itself"),
    ((LAN, "192.168.2.0/24"), {"seen_as": SEEN}, "--as"),
    ((), {"seen_as": SEEN}, "--as"),
    ((), {"same_lan": True}, "--same-lan"),
    ((LAN,), {"seen_as": "10.9.9.0/24"}, "overlaps 10.9.0.0/16, which is routed by the node n1"),
    (("10.9.9.0/24",), {}, "overlaps 10.9.0.0/16"),
    (("10.8.0.0/15",), {}, "overlaps 10.9.0.0/16"),
    ((LAN,), {"seen_as": "172.16.5.0/24"}, "in which n2 is itself"),
]


@pytest.mark.parametrize(("ranges", "options", "said"), BAD)
def test_what_cannot_be_is_refused(
    ranges: tuple[str, ...], options: dict[str, Any], said: str
) -> None:
    mesh = mesh_of(Gateway(egress=Egress(("10.9.0.0/16",))))
    there = mesh.by_name["n2"]
    commit(mesh, replace(there, facts=replace(there.facts, lan=("172.16.5.9/24",))))
    assert said in refusal(mesh, "n2", *ranges, **options).message


@pytest.mark.parametrize(
    ("lan", "seen"),
    [
        (LAN, "10.202.0.0/24"),
        ("192.168.0.0/16", "10.202.0.0/16"),
        ("172.20.1.0/24", SEEN),
        ("172.20.0.0/16", "10.201.0.0/16"),
        ("172.20.1.0/25", "10.201.1.0/25"),
    ],
)
def test_of_one_gateway_no_address_has_two_meanings(lan: str, seen: str) -> None:
    mesh = mesh_of(MAPPED)
    if lan == LAN:  # mapped anew
        assert add(mesh, "n1", lan, seen_as=seen).ranges == (seen,)
    else:
        assert refusal(mesh, "n1", lan, seen_as=seen).code == "range-overlaps"


def test_a_range_goes_by_either_name() -> None:
    for name in (SEEN, LAN):
        mesh = mesh_of(MAPPED)
        add(mesh, "n1", "10.9.0.0/16", same_lan=True)
        left = remove_role(mesh, "n1", "egress", [name])
        assert left.gateway.egress == Egress(("10.9.0.0/16",), same_lan=("10.9.0.0/16",))


# One LAN, several gateways


@pytest.mark.parametrize("gateway", [PLAIN, MAPPED])
def test_a_second_gateway_for_a_lan_is_taken_where_it_is_said(gateway: Gateway) -> None:
    mesh = mesh_of(gateway)
    as_ = SEEN if gateway is MAPPED else None
    assert "--same-lan" in str(refusal(mesh, "n2", LAN, seen_as=as_).hint)
    second = add(mesh, "n2", LAN, seen_as=as_, same_lan=True)
    assert second.same_lan == second.ranges == gateway.ranges
    assert not unsaid({n.name: n.gateway for n in mesh.gateways.values()})


def test_a_group_is_mapped_as_a_whole_before_a_router_or_another_site_gets_its_range() -> None:
    """Each line that is proposed is taken, and the last leaves the range free."""
    mesh = mesh_of(NO_GATEWAY, NO_GATEWAY, Gateway(ingress=Ingress("192.0.2.7:51821")))
    for node in ("n1", "n2"):
        add(mesh, node, LAN, same_lan=True)
    router = NewClient("c1", "r2", key32(77), routes=LAN)
    with pytest.raises(RangeOverlaps) as caught:
        create_client(mesh, router, NOW)
    hint = caught.value.hint
    head, _, commands = hint.partition(": ")
    assert head == "map that of n1 and n2"
    assert "map all: nmk gateway add -n home n1" in refusal(mesh, "n3", LAN).hint
    for command in commands.split(" && "):
        words = command.split()
        assert words[:5] == ["nmk", "gateway", "add", "-n", "home"]
        assert words[6:9:2] == ["egress", "--as"]
        assert words[10:] == ["--same-lan"]
        add(mesh, words[5], words[7], seen_as=words[9], same_lan=True)
    create_client(mesh, router, NOW)
    assert not unsaid({n.name: n.gateway for n in mesh.gateways.values()})


def test_what_was_typed_with_a_range_is_repeated_in_what_is_proposed() -> None:
    mesh = mesh_of(PLAIN)
    hint = refusal(mesh, "n2", LAN, metric=200, nat="off", interface="eth1").hint
    same, _, other = hint.partition("; else ")
    options = "--nat off --interface eth1 --metric 200"
    assert f"egress {LAN} {options} --same-lan" in same
    assert other.endswith(f"n2 egress {LAN} --as 10.201.0.0/24 {options}")
    assert f"n1 egress {LAN} --as 10.201.1.0/24 && " in other


def test_a_wider_range_of_the_same_lan_is_taken() -> None:
    assert add(mesh_of(PLAIN), "n2", "192.168.0.0/16", same_lan=True).ranges == ("192.168.0.0/16",)
    wide = add(mesh_of(MAPPED), "n2", "192.168.0.0/23", seen_as="10.201.0.0/23", same_lan=True)
    assert wide.lans == ("192.168.0.0/23",)


@pytest.mark.parametrize(
    ("lan", "seen"), [("192.168.2.0/24", SEEN), ("192.168.1.0/25", "10.201.1.128/25")]
)
def test_what_is_said_to_be_the_same_lan_is_checked(lan: str, seen: str) -> None:
    error = refusal(mesh_of(MAPPED), "n2", lan, seen_as=seen, same_lan=True)
    assert f"{LAN} is behind n1, so it is not the same LAN" in str(error.hint)


def test_groups_that_were_there_before_go_on() -> None:
    mesh = mesh_of(PLAIN, PLAIN)
    assert add(mesh, "n2", LAN, metric=5).metric == 5
    assert add(mesh, "n2", metric=6).metric == 6
    assert add(mesh, "n2", "172.20.0.0/16").ranges == ("172.20.0.0/16", LAN)
    [(first, second)] = unsaid({n.name: n.gateway for n in mesh.gateways.values()})
    assert (first.name, second.name, second.range) == ("n1", "n2", LAN)
    assert ways_to_say("home", first.name, second) == [
        f"  if so: nmk gateway add -n home n2 egress {LAN} --same-lan",
        f"  else: nmk gateway add -n home n2 egress {LAN} --as ANOTHER-RANGE",
        "  and map that of n1 the same way, to a range of its own",
    ]
    add(mesh, "n2", LAN, same_lan=True)
    assert not unsaid({n.name: n.gateway for n in mesh.gateways.values()})


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["a", "b", "c"]),
            st.sampled_from(["10.0.0.0/8", "10.1.0.0/16", "10.1.1.0/24", "10.2.0.0/16", SIX]),
            st.booleans(),
        ),
        max_size=8,
    )
)
def test_what_nobody_has_said_is_found(rows: list[tuple[str, str, bool]]) -> None:
    gateways = {
        name: Gateway(
            egress=Egress(
                tuple(dict.fromkeys(r for n, r, _ in rows if n == name)),
                same_lan=tuple(r for n, r, said in rows if n == name and said),
            )
        )
        for name in {name for name, _, _ in rows}
    }
    by_hand = {
        max((a, r), (b, s))
        for a, one in gateways.items()
        for b, other in gateways.items()
        for r in one.ranges
        for s in other.ranges
        if a < b and overlap(ip_network(r), ip_network(s))
        if one.egress and r not in one.egress.same_lan
        if other.egress and s not in other.egress.same_lan
    }
    assert {(second.name, second.range) for _, second in unsaid(gateways)} == by_hand


# As it is stored and travels


@pytest.mark.parametrize(
    "gateway",
    [
        MAPPED,
        Gateway(egress=Egress((LAN,), same_lan=(LAN,))),
        Gateway(Ingress(), Egress((SEEN, SEEN6), "off", "eth1", 3, {SEEN: LAN, SEEN6: SIX})),
    ],
)
def test_what_is_written_is_read(gateway: Gateway) -> None:
    assert parse_gateway(gateway_json(gateway)) == gateway


@pytest.mark.parametrize(
    "mapped",
    [{SEEN: "192.168.0.0/16"}, {LAN: SEEN}, {SEEN: 5}, {SEEN: "x"}, {SEEN: "0.0.0.0/24"}, "x"],
)
def test_what_cannot_be_mapped_is_no_gateway(mapped: object) -> None:
    data = gateway_json(MAPPED)
    data["egress"]["mapped"] = mapped
    with pytest.raises((BadInput, TypeError, AttributeError)):
        parse_gateway(data)


# Routers


def routers(*routes: str) -> Mesh:
    """n1 lets in the router c1, with ranges behind it, and n2 routes LAN."""
    gateway = Gateway(Ingress("vpn.example.org:1"))
    mesh = mesh_of(gateway, PLAIN)
    commit(mesh, made_client(1, routes=routes, issue=Issue((), "")))
    return mesh


def new_router(mesh: Mesh, routes: str, name: str = "router") -> tuple[str, ...]:
    new = NewClient("f" * 16, name, key32(77, kind=9), routes=routes)
    made = create_client(mesh, new, NOW)
    commit(mesh, made)
    assert set(made.issue.ranges or ()).isdisjoint(made.routes)
    assert made.issue.keepalive == 25 or not made.routes
    return made.routes


def test_a_router_has_what_is_behind_it() -> None:
    mesh = routers()
    assert new_router(mesh, f"fd50::/64,192.168.50.0/24, {SEEN}") == (
        SEEN,
        "192.168.50.0/24",
        "fd50::/64",
    )
    [router] = mesh.routers.values()
    assert router.issue.ranges == ("10.20.0.0/24", "fd20::/64", LAN)


@pytest.mark.parametrize(
    ("routes", "said"),
    [
        (LAN, "is routed by the node n2 already"),
        ("192.168.1.128/25", "which is routed by the node n2"),
        ("192.168.60.0/24", "is routed by the ext client c1 already"),
        ("10.20.0.0/24", "the range of home itself"),
        ("0.0.0.0/0", "everything"),
        ("192.168.50.1/24", "host bits"),
        ("192.168.50.0/24,", "''"),
        ("nonsense", "nonsense"),
        (",".join(f"10.{n}.0.0/16" for n in range(30, 95)), "too many"),
    ],
)
def test_what_cannot_be_behind_a_router(routes: str, said: str) -> None:
    mesh = routers("192.168.60.0/24")
    with pytest.raises((BadInput, RangeOverlaps)) as caught:
        new_router(mesh, routes)
    assert said in caught.value.message
    with pytest.raises((BadInput, RangeOverlaps)):
        set_client(mesh, "c1", {"routes": routes.replace(".60.", ".1.")}, None, None)


def test_routes_are_set_and_taken_away() -> None:
    mesh = routers("192.168.60.0/24")
    changed = set_client(mesh, "c1", {"routes": "192.168.60.0/23"}, None, None)
    assert changed.routes == ("192.168.60.0/23",)
    commit(mesh, set_client(mesh, "c1", {"routes": ""}, None, None))
    assert not mesh.routers
    assert add(mesh, "n2", "192.168.60.0/24").ranges == (LAN, "192.168.60.0/24")


def test_a_gateway_does_not_get_what_is_behind_a_router() -> None:
    mesh = routers("192.168.60.0/24")
    for same_lan in (False, True):
        error = refusal(mesh, "n2", "192.168.60.0/24", same_lan=same_lan)
        assert "ext client c1" in error.message
        assert "--same-lan" not in str(error.hint)
    add(mesh, "n2", "192.168.60.0/24", seen_as="10.201.60.0/24")


def test_a_gateway_is_not_in_the_lan_of_its_router() -> None:
    mesh = routers("192.168.60.0/24")
    assert "c1 of n1" in refusal(mesh, "n1", "192.168.60.0/24", seen_as="10.9.0.0/24").message
    add(mesh, "n1", "192.168.70.0/24", seen_as="10.9.0.0/24")
    with pytest.raises(RangeOverlaps, match="in which n1 is itself"):
        set_client(mesh, "c1", {"routes": "192.168.70.0/24"}, None, None)


# Routers of a hub that is taken over


def taken_over(
    *routes: str, gateways: tuple[Gateway, ...] = (NO_GATEWAY, PLAIN)
) -> tuple[str, ...]:
    """What is led to a client of a hub that is n1 from now on."""
    mesh = mesh_of(*gateways)
    peer = HubPeer("e" * 16, "shop", key32(78, kind=9), ("10.20.0.99",), routes)
    records = take_over_hub(mesh, "n1", key32(1), ["10.20.0.1"], [peer], NOW)
    [client] = [record for record in records if isinstance(record, ExtClient)]
    return client.routes


def test_a_router_of_a_hub_keeps_what_is_behind_it() -> None:
    assert taken_over("fd50::/64", "192.168.50.0/24") == ("192.168.50.0/24", "fd50::/64")


def test_what_somebody_else_has_does_not_keep_a_router_out() -> None:
    assert taken_over(LAN, "192.168.1.0/25", "10.20.0.0/16", "192.168.50.0/24") == (
        "192.168.50.0/24",
    )


def test_two_routers_of_a_hub_do_not_get_one_range() -> None:
    mesh = mesh_of()
    peers = [
        HubPeer(f"{n:016x}", f"shop{n}", key32(n, kind=9), (f"10.20.0.{90 + n}",), (routes,))
        for n, routes in enumerate(["192.168.50.0/24", "192.168.50.0/25", "192.168.51.0/24"])
    ]
    records = take_over_hub(mesh, "n1", key32(1), ["10.20.0.1"], peers, NOW)
    assert [r.routes for r in records if isinstance(r, ExtClient)] == [
        ("192.168.50.0/24",),
        (),
        ("192.168.51.0/24",),
    ]


# What a machine makes of it


def seen_by(number: int, *records: Record) -> tuple[View, Routing]:
    """The view of a node, and the routing that it leads to."""
    view = made_view(made_mesh(*records, cidr6="fd20::/64"), f"n{number}")
    return view, compile_routing(view, RouteWishes(), [], set(), set())


def new_node(number: int, gateway: Gateway = NO_GATEWAY, protocol: int = 2) -> Node:
    facts = replace(made_facts(number), protocol=protocol)
    return made_node(number, gateway=gateway, facts=facts, address6=f"fd20::{number}")


def test_a_node_routes_what_is_mapped_and_knows_the_lan() -> None:
    _, routing = seen_by(2, new_node(1, MAPPED), new_node(2))
    assert routing.routes == (Route(SEEN, "n1", lan=LAN),)
    assert routing.table == (SEEN,)


def test_a_gateway_that_maps_a_lan_never_leads_it_to_another_site() -> None:
    _, routing = seen_by(1, new_node(1, MAPPED), new_node(2, PLAIN))
    [route] = routing.routes
    assert (route.gateway, route.reason) == (None, f"this node routes {LAN} itself")


def test_a_gateway_that_could_not_map_is_not_told_of_it_nor_is_anybody() -> None:
    both = Gateway(egress=Egress((SEEN, "10.9.0.0/16"), mapped={SEEN: LAN}))
    for number in (1, 2):
        view, routing = seen_by(number, new_node(1, both, protocol=1), new_node(2))
        told = {*view.gateway.ranges, *(route.range for route in routing.routes)}
        assert told == {"10.9.0.0/16"}


def test_what_is_behind_a_router_goes_by_its_gateway_and_there_to_it() -> None:
    gateway, router = new_node(1, Gateway(Ingress())), made_client(1, routes=(LAN,))
    view, routing = seen_by(2, gateway, new_node(2), router)
    assert routing.routes == (Route(LAN, "n1", client="c1"),)
    assert LAN in routing.ranges[view.clients[router.id].via]
    view, routing = seen_by(1, gateway, new_node(2), router)
    assert routing.ranges == {router.id: (LAN,)}
    assert routing.table == (LAN,)


def test_the_filter_translates_both_ways_and_lets_nothing_past() -> None:
    view, routing = seen_by(1, new_node(1, MAPPED), new_node(2))
    text = render_ruleset(Own("t", "nmk-home"), view, routing, RouteWishes()) or ""
    assert f'iifname "nmk-home" ip daddr {SEEN} dnat ip prefix to {LAN}' in text
    assert f'oifname "nmk-home" ip saddr {LAN} snat ip prefix to {SEEN}' in text
    assert f'iifname "nmk-home" oifname "nmk-home" ct original ip daddr {{ {SEEN} }} drop' in text
    assert f"ip daddr {{ {LAN} }} accept" not in text  # by its other name alone
