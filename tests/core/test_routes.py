"""What leads into the tunnel and by whom, and that a plan makes the machine's table so."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nmk.core.claims import SERVICES, Claim, find_left_out
from nmk.core.gateways import Egress, Exit, Gateway, Ingress
from nmk.core.parse import EVERYTHING
from nmk.core.peers import View
from nmk.core.records import ExtClient, Node
from nmk.core.route_table import (
    NO_TABLE,
    RouteTable,
    compile_table,
    describe_table,
    only_ipv4,
    plan_table,
    rules_of,
    shut_table_of,
    table_of,
)
from nmk.core.routes import (
    Route,
    RouteWishes,
    Routing,
    competitors,
    compile_routing,
    idle_routing,
    watched,
)
from nmk.core.tunnel import Own, compile_tunnel
from tests.core.made import (
    EXIT,
    INGRESS,
    NOW,
    commit,
    identity,
    key32,
    made_client,
    made_egress,
    made_mesh,
    made_node,
    made_view,
)
from tests.core.router import NOWHERE, OUT, TUNNEL, Router, kind_of, leads, priority_of

LAN, OFFICE, SIX = "192.168.7.0/24", "10.9.0.0/16", "fd00:7::/48"
WISHES = RouteWishes()
OWN = Own("nmk-home", key32(99), 51821)


def view_of(
    *nodes: Node | ExtClient, gateway: Gateway | None = None, cidr6: str | None = None
) -> View:
    """A view of n1 with these peers."""
    me = made_node(1, gateway=gateway or Gateway(), address6="fd20::1" if cidr6 else None)
    return made_view(made_mesh(me, *nodes, cidr6=cidr6))


def node(number: int, gateway: Gateway) -> Node:
    return made_node(number, gateway=gateway)


def route(
    view: View,
    wishes: RouteWishes = WISHES,
    claims: Sequence[Claim] = (),
    dead: Collection[int] = (),
    left_out: Collection[str] = (),
) -> Routing:
    """The routing; `dead` are numbers of nodes."""
    return compile_routing(view, wishes, claims, {made_node(n).id for n in dead}, left_out)


def ways(routing: Routing) -> dict[str, str | None]:
    """The gateway of each range."""
    return {r.range: r.gateway for r in routing.routes}


def sent(routing: Routing) -> dict[int, tuple[str, ...]]:
    """What is sent to whom, by the nodes' numbers."""
    numbers = {made_node(n).id: n for n in range(1, 10)}
    return {numbers[key]: found for key, found in routing.ranges.items()}


def test_where_there_is_no_gateway_nothing_is_routed() -> None:
    assert route(view_of(node(2, Gateway()))) == Routing({})


# --- ext clients


def test_ext_clients_are_reached_by_their_gateways() -> None:
    mesh = made_mesh(
        made_node(1, gateway=INGRESS),
        made_node(2, gateway=INGRESS),
        made_node(3, gateway=EXIT),
        made_client(1),
        made_client(2, gateway=identity(2), address6="fd20::2"),
        made_client(3, gateway=identity(2)),
        made_client(4, gateway=identity(3)),  # no ingress gateway any more
        made_client(5, gateway=identity(8)),  # deleted
        made_client(6, gateway=identity(2), state="disabled"),
        cidr6="fd20::/64",
    )
    routing = route(made_view(mesh))
    assert sent(routing) == {2: ("10.20.0.202/32", "fd20::2/128", "10.20.0.203/32")}
    assert routing.table == ()  # the network's own range leads there anyway
    assert sent(route(made_view(mesh), left_out={"10.20.0.202"})) == {
        2: ("fd20::2/128", "10.20.0.203/32")
    }
    commit(mesh, made_node(2, deleted_at=NOW))
    assert sent(route(made_view(mesh))) == {}


# --- egress gateways


def test_a_range_goes_by_its_gateway() -> None:
    nodes = node(2, made_egress(LAN, SIX)), node(3, made_egress(OFFICE))
    routing = route(view_of(*nodes, cidr6="fd20::/64"))
    assert sent(routing) == {2: (LAN, SIX), 3: (OFFICE,)}
    assert routing.table == (OFFICE, LAN, SIX)
    assert routing.routes == (Route(OFFICE, "n3"), Route(LAN, "n2"), Route(SIX, "n2"))
    assert (routing.exit, routing.problem) == (None, None)


RIVALS = (
    node(4, made_egress(LAN, metric=10)),
    node(3, made_egress(LAN, metric=20)),
    node(2, made_egress(LAN, metric=20)),
    node(5, made_egress(LAN, OFFICE, metric=30)),
)


@pytest.mark.parametrize(
    ("dead", "gateway", "standby"),
    [
        ((), "n4", ("n2", "n3", "n5")),
        ((4,), "n2", ("n3", "n5", "n4")),
        ((2, 4), "n3", ("n5", "n4", "n2")),
        ((2, 3, 4), "n5", ("n4", "n2", "n3")),
        ((3,), "n4", ("n2", "n5", "n3")),
        ((2, 3, 4, 5), "n4", ("n2", "n3", "n5")),
    ],
)
def test_of_several_gateways_the_first_that_is_up_routes_by_metric_then_name(
    dead: tuple[int, ...], gateway: str, standby: tuple[str, ...]
) -> None:
    routing = route(view_of(*RIVALS), dead=dead)
    assert routing.routes == (Route(OFFICE, "n5"), Route(LAN, gateway, None, standby))
    [by] = [n for n, ranges in sent(routing).items() if LAN in ranges]
    assert f"n{by}" == gateway


def test_a_gateway_without_a_rival_is_used_dead_or_alive() -> None:
    assert ways(route(view_of(node(2, made_egress(LAN))), dead=[2])) == {LAN: "n2"}


def test_only_gateways_of_one_and_the_same_range_stand_in_for_one_another() -> None:
    view = view_of(*RIVALS, node(6, made_egress("192.168.7.0/25")), node(7, EXIT))
    assert competitors(view) == {made_node(n).id for n in (2, 3, 4, 5)}
    assert competitors(view_of(node(2, made_egress(LAN, OFFICE)))) == set()


def test_the_exit_node_is_listened_for_as_well() -> None:
    view = view_of(*RIVALS, node(6, EXIT), node(7, EXIT))
    rivals = competitors(view)
    assert watched(view, RouteWishes()) == rivals
    assert watched(view, RouteWishes(exit_node="n6")) == rivals | {made_node(6).id}
    assert watched(view, RouteWishes(exit_node="n2")) == rivals


def test_of_an_idle_routing_nothing_is_left_but_the_reasons() -> None:
    view = view_of(node(2, made_egress(LAN)), node(3, made_egress(OFFICE)), node(6, EXIT))
    claims = [Claim(OFFICE, "eth0")]
    idle = idle_routing(route(view, RouteWishes(exit_node="n6"), claims=claims), "it is night")
    assert idle == Routing(
        ranges={},
        routes=(Route(OFFICE, None, f"eth0 has {OFFICE}"), Route(LAN, None, "it is night")),
        problem="it is night",
    )
    no_exit = route(view, RouteWishes(exit_node="n2"))
    assert idle_routing(no_exit, "it is night").problem == "n2 is no exit gateway"
    assert idle_routing(route(view), "it is night").problem is None


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("n1", "n1 is this machine itself"),
        ("n2", "n2 is no exit gateway"),
        ("c3", "c3 is an ext client"),
        ("n9", "there is no node 'n9'"),
    ],
)
def test_who_can_be_no_exit_node(name: str, problem: str) -> None:
    view = view_of(node(2, made_egress(LAN)), made_client(3), gateway=INGRESS)
    assert route(view, RouteWishes(exit_node=name)).problem == problem


def test_ranges_within_ranges_go_each_its_own_way() -> None:
    routing = route(view_of(node(2, made_egress("10.9.7.0/24")), node(3, made_egress(OFFICE))))
    assert sent(routing) == {2: ("10.9.7.0/24",), 3: (OFFICE,)}


@pytest.mark.parametrize(
    ("lan", "kept"),
    [
        ("192.168.7.0/24", False),
        ("192.168.0.0/16", False),
        ("192.168.7.0/25", True),
        ("192.168.7.128/25", True),
        ("192.168.7.9/32", True),
        ("192.168.8.0/24", True),
        ("fd00:7::/48", True),
    ],
)
def test_a_lan_that_holds_a_range_keeps_it_and_a_smaller_one_needs_not(
    lan: str, kept: bool
) -> None:
    [found] = route(view_of(node(2, made_egress(LAN))), claims=[Claim(lan, "eth0")]).routes
    assert found == (Route(LAN, "n2") if kept else Route(LAN, None, f"eth0 has {lan}"))


def test_an_ipv6_lan_keeps_its_range_too() -> None:
    view = view_of(node(2, made_egress(SIX, LAN)))
    claims = [Claim("fd00::/16", "eth0"), Claim("10.0.0.0/8", "network office")]
    assert ways(route(view, claims=claims)) == {LAN: "n2", SIX: None}


def test_the_services_of_its_cloud_are_left_to_the_machine() -> None:
    drawn = ("168.63.129.16/32", "fd00:ec2::254/128", "168.63.129.0/24")
    view = view_of(made_node(2, gateway=Gateway(egress=Egress(drawn))))
    routing = route(replace(view, addresses=("10.20.0.1", "fd20::1")), claims=SERVICES)
    assert routing.table == ("168.63.129.0/24",)
    assert [r.reason for r in routing.routes if r.gateway is None] == [
        "this machine's cloud provider has 168.63.129.16/32",
        "this machine's cloud provider has fd00:ec2::/32",
    ]


def test_what_is_left_out_is_sent_to_nobody() -> None:
    routing = route(view_of(node(2, made_egress(LAN, OFFICE))), claims=[Claim(LAN, "eth0")])
    assert sent(routing) == {2: (OFFICE,)}
    assert routing.table == (OFFICE,)


def test_a_node_without_an_address_of_a_family_follows_no_range_of_it() -> None:
    """Its packets would come with another's address, which the gateway drops."""
    view = view_of(node(2, made_egress(LAN, SIX)), cidr6="fd20::/64")
    [own] = [a for a in view.addresses if ":" not in a]
    routing = route(view, left_out={own})
    assert ways(routing) == {LAN: None, SIX: "n2"}
    assert [r.reason for r in routing.routes] == ["this node's IPv4 address is left out", None]


def test_an_owner_may_refuse_all_ranges() -> None:
    view = view_of(*RIVALS, node(6, EXIT))
    routing = route(view, RouteWishes(accept=False))
    assert (routing.ranges, routing.table) == ({}, ())
    assert {r.reason for r in routing.routes} == {"accept-routes is off"}
    leaving = route(view, RouteWishes(accept=False, exit_node="n6"))
    assert (sent(leaving), leaving.table) == ({6: EVERYTHING}, EVERYTHING)


def test_a_gateway_sends_its_own_ranges_to_nobody_else() -> None:
    routing = route(view_of(*RIVALS, gateway=made_egress(LAN)))
    assert ways(routing) == {OFFICE: "n5", LAN: None}
    assert [r.reason for r in routing.routes] == [None, "this node routes it itself"]


@pytest.mark.parametrize(
    ("rivals", "gateway"), [((node(3, made_egress(LAN, metric=200)),), "n3"), ((), None)]
)
def test_a_gateway_that_the_mesh_does_not_lead_to_from_here_routes_nothing(
    rivals: tuple[Node, ...], gateway: str | None
) -> None:
    """Its address is somebody else's here, so it is no peer: packets to it would be lost."""
    view = view_of(node(2, replace(EXIT, egress=Egress((LAN,)))), *rivals)
    claims = [Claim("10.20.0.2/32", "eth0")]
    out = {left.address for left in find_left_out(view, claims)}
    routing = route(view, RouteWishes(exit_node="n2"), claims, left_out=out)
    assert ways(routing) == {LAN: gateway}
    assert (routing.exit, routing.problem is None) == (None, False)


# --- exit nodes


def test_everything_goes_by_an_exit_node_and_ranges_by_their_gateways() -> None:
    view = view_of(node(2, made_egress(LAN)), node(3, EXIT))
    routing = route(view, RouteWishes(exit_node="n3"))
    assert sent(routing) == {2: (LAN,), 3: EVERYTHING}
    assert routing.table == (LAN, *EVERYTHING)
    assert (routing.exit, routing.problem) == ("n3", None)


@pytest.mark.parametrize(
    ("name", "problem"), [("n2", "n2 is no exit gateway"), ("n9", "there is no node 'n9'")]
)
def test_without_its_exit_node_a_machine_routes_only_ranges_and_says_why(
    name: str, problem: str
) -> None:
    view = view_of(node(2, made_egress(LAN)), node(3, EXIT))
    routing = route(view, RouteWishes(exit_node=name))
    assert (routing.exit, routing.problem, routing.table) == (None, problem, (LAN,))


def test_nobody_leaves_by_an_exit_node_unasked() -> None:
    routing = route(view_of(node(3, EXIT)))
    assert (routing.ranges, routing.table, routing.exit, routing.problem) == ({}, (), None, None)


def test_a_node_is_no_exit_of_its_own() -> None:
    routing = route(view_of(gateway=EXIT), RouteWishes(exit_node="n1"))
    assert (routing.exit, routing.table) == (None, ())
    assert routing.problem


# --- all of it at once

roles = st.builds(
    Gateway,
    ingress=st.sampled_from([None, Ingress()]),
    egress=st.none()
    | st.builds(
        lambda ranges, metric: Egress(tuple(sorted(ranges)), metric=metric),
        st.sets(st.sampled_from([LAN, OFFICE, SIX, "10.9.7.0/24"]), min_size=1),
        st.integers(1, 3),
    ),
    exit=st.sampled_from([None, Exit()]),
)
views = st.builds(
    lambda gateways, clients: made_view(
        made_mesh(
            *(made_node(n, gateway=g) for n, g in enumerate(gateways, start=1)),
            *(made_client(n, gateway=identity(via)) for n, via in enumerate(clients, start=1)),
        )
    ),
    st.lists(roles, min_size=1, max_size=6),
    st.lists(st.integers(1, 8), max_size=6),
)
wishes_ = st.builds(
    RouteWishes, st.booleans(), exit_node=st.sampled_from([None, "n1", "n2", "n3", "n9"])
)
claims_ = st.lists(
    st.sampled_from([LAN, "192.168.7.0/25", "10.0.0.0/8", "fd00::/16", "172.16.0.0/12"]), max_size=2
)


@given(views, wishes_, claims_, st.sets(st.integers(1, 6)), st.randoms())
def test_what_leads_into_the_tunnel_is_sent_to_exactly_one_peer(
    view: View, wishes: RouteWishes, lans: list[str], dead: set[int], random: object
) -> None:
    claims = [Claim(lan, "eth0") for lan in lans]
    routing = route(view, wishes, claims, dead)
    peers = compile_tunnel(view, OWN, routing.ranges).peers.values()
    everywhere = [cidr for peer in peers for cidr in peer.allowed_ips]
    assert len(everywhere) == len(set(everywhere))
    assert len(routing.table) == len(set(routing.table))
    assert set(routing.table) <= set(everywhere)
    assert set(everywhere) - set(routing.table) <= {
        f"{a}/32" for other in view.others for a in other.addresses
    }
    for found in routing.routes:
        assert (found.range in routing.table) == (found.reason is None)
        [*by] = [p for p in view.peers.values() if p.name == found.gateway]
        assert all(found.range in p.gateway.ranges for p in by)
        assert len(by) == (found.reason is None)
    shuffled = list(view.peers.items())
    random.shuffle(shuffled)  # type: ignore[attr-defined]  # hypothesis's random.Random
    assert route(replace(view, peers=dict(shuffled)), wishes, claims, dead) == routing


# --- the table


def table(routing: Routing, *, four: bool = True, six: bool = True, order: int = 0) -> RouteTable:
    addresses = ("10.20.0.1",) * four + ("fd20::1",) * six
    view = replace(view_of(), addresses=addresses)
    return compile_table(order, view, routing, any_exit=EVERYTHING[0] in routing.table)


def rules(*kinds: str, families: Collection[int] = (4, 6), order: int = 0) -> set[tuple[int, str]]:
    return {(family, getattr(rules_of(order), kind)) for family in families for kind in kinds}


def passing(*kinds: str, families: Collection[int] = (4, 6)) -> set[tuple[int, str]]:
    found = {rule for kind in kinds for rule in getattr(rules_of(0), kind)}
    return {(family, rule) for family, rule in found if family in families}


def test_no_route_of_ours_has_the_scope_that_a_router_is_looked_for_in() -> None:
    """Nor does a rule end the search: the kernel asks the rules before it takes a new route."""
    want = table(Routing({}, (LAN, *EVERYTHING), exit="n2"))
    [four, _] = plan_table(0, "nmk-home", want, NO_TABLE)
    routes = [line for line in str(four.stdin).splitlines() if line.startswith("route ")]
    number, shut = table_of(0), shut_table_of(0)
    assert routes == [
        f"route replace 0.0.0.0/0 dev nmk-home table {number} scope global",
        f"route replace {LAN} dev nmk-home table {number} scope global",
        f"route replace unreachable default table {shut}",
    ]
    assert not [rule for family, rule in want.rules if family == 4 and "unreachable" in rule]


def test_an_empty_routing_needs_no_table() -> None:
    assert table(Routing({})) == NO_TABLE
    assert plan_table(0, "nmk-home", NO_TABLE, NO_TABLE) == []


def test_ranges_need_rules_of_their_own_family_alone() -> None:
    found = table(Routing({}, (LAN,)))
    assert found.led == {LAN}
    assert found.rules == rules("lan", "ranges", families=[4]) | passing("links", families=[4])
    both = table(Routing({}, (LAN, SIX))).rules
    assert both == rules("lan", "ranges") | passing("links")


@pytest.mark.parametrize(
    ("four", "six", "led", "by_exit"),
    [
        (True, True, {*EVERYTHING, LAN}, [4, 6]),
        (True, False, {"0.0.0.0/0", LAN}, [4]),
        (False, True, {"::/0", LAN}, [6]),
    ],
)
def test_with_an_exit_node_nothing_leaves_by_a_family_that_the_network_has_not(
    four: bool, six: bool, led: set[str], by_exit: list[int]
) -> None:
    found = table(Routing({}, (LAN, *EVERYTHING), exit="n2"), four=four, six=six)
    assert found.led == led
    assert found.rules == (
        rules("ranges") | passing("links", "lans", "closed") | rules("everything", families=by_exit)
    )
    assert found.shut


def test_a_machine_without_ipv6_has_what_is_left() -> None:
    found = only_ipv4(table(Routing({}, (LAN, SIX, *EVERYTHING), exit="n2")))
    assert found.led == {LAN, "0.0.0.0/0"}
    passes = passing("links", "lans", "closed", families=[4])
    assert found.rules == rules("ranges", "everything", families=[4]) | passes
    assert found.shut
    assert only_ipv4(NO_TABLE) == NO_TABLE


def test_networks_have_tables_of_their_own_and_ranges_go_before_exits() -> None:
    orders = range(100)
    assert len({table_of(order) for order in orders}) == 100
    assert not {table_of(order) for order in orders} & {0, 253, 254, 255}
    found = [rules_of(order) for order in orders]
    assert len({r for each in found for r in each.all}) == len(orders) * len(found[0].all)
    lans = [priority_of(r.lan) for r in found]
    ranges = [priority_of(r.ranges) for r in found]
    exits = [priority_of(r.everything) for r in found]
    assert all(lan < own for lan, own in zip(lans, ranges, strict=True))
    assert max(ranges) < min(exits)  # one network's exit takes nothing from another's ranges
    assert max(exits) < min(priority_of(rule) for r in found for _, rule in r.closed)
    assert len({*lans, *ranges, *exits}) == 300
    assert len({n for o in orders for n in (table_of(o), shut_table_of(o))}) == 200
    for order in orders:
        own = rules_of(order)
        kinds = ("lan", "ranges", "everything")
        assert all(kind_of(getattr(own, kind), table_of(order)) == kind for kind in kinds)
        assert {kind_of(rule, table_of(order)) for _, rule in own.links} == {"links"}


@st.composite
def states(draw: st.DrawFn) -> RouteTable:
    """Any state of the network with order 3, also what is left of a run that was cut short."""
    cidrs = st.sampled_from([LAN, OFFICE, SIX, "10.9.7.1/32", "fd00:8::1/128", *EVERYTHING])
    found = st.sampled_from(sorted(rules_of(3).all))
    shut, is_wide = draw(st.booleans()), draw(st.booleans())
    led = draw(st.frozensets(cidrs))
    return RouteTable(led, draw(st.frozensets(found)), shut, is_wide or not led)


def tables_of(four: bool, six: bool) -> st.SearchStrategy[RouteTable]:
    """Tables of a network that has these families."""
    ranges = st.sets(st.sampled_from([LAN, OFFICE, SIX]))
    return st.builds(
        lambda found, leaves: table(
            Routing({}, (*sorted(found), *(EVERYTHING if leaves else ()))),
            four=four,
            six=six,
            order=3,
        ),
        ranges,
        st.booleans(),
    )


wishes_of_any = states().map(lambda state: replace(state, is_wide=True))
families = st.sampled_from([(True, True), (True, False), (False, True)])
tables = families.flatmap(lambda f: tables_of(*f))
pairs = families.flatmap(lambda f: st.tuples(tables_of(*f), tables_of(*f)))


def walk(want: RouteTable, live: RouteTable) -> Router:
    """The machine when the plan is carried out."""
    router = Router(table_of(3), live)
    commands = plan_table(3, "nmk-home", want, live)
    assert len(commands) <= 2
    for command in commands:
        router.run(command)
    return router


@given(states() | tables, wishes_of_any | tables)
def test_a_plan_leads_from_any_state_to_the_one_that_is_wanted(
    live: RouteTable, want: RouteTable
) -> None:
    router = walk(want, live)
    assert router.now == want
    assert plan_table(3, "nmk-home", want, router.now) == []
    assert describe_table(3, want, router.now) == []
    assert (len(router.log) == 1) == (live == want)
    assert bool(describe_table(3, want, live)) == (live != want)


PLACES = {
    "192.168.7.9": LAN,
    "10.9.1.1": OFFICE,
    "fd00:7::9": SIX,
    "198.51.100.7": "0.0.0.0/0",
    "2001:db8::7": "::/0",
}


@given(tables)
def test_what_is_wanted_is_where_packets_go(want: RouteTable) -> None:
    for text, cidr in PLACES.items():
        everything = "::/0" if ":" in text else "0.0.0.0/0"
        otherwise = NOWHERE if leaves(want) else OUT
        led = {cidr, everything} & want.led
        assert leads(want, table_of(3), text) == (TUNNEL if led else otherwise)


@given(tables)
def test_what_is_on_a_link_alone_is_never_led_into_the_tunnel(want: RouteTable) -> None:
    for text in ("169.254.169.254", "224.0.0.251", "255.255.255.255", "fe80::a9fe:a9fe", "ff0e::1"):
        assert leads(want, table_of(3), text) == OUT
    for text in ("100.100.100.200", "168.63.129.16", "fd00:ec2::254", "fd20:ce::254"):
        assert leads(want, table_of(3), text) == OUT
    services = {"168.63.129.16/32", "fd00:ec2::254/128"}  # as a controller may draw them to a node
    wide = frozenset({"169.0.0.0/8", "100.64.0.0/10", *services})
    both = table(Routing({}, (LAN, SIX)), order=3).rules
    wished = replace(want, led=want.led | wide, rules=want.rules | both)
    for text in ("169.254.169.254", "100.100.100.200", "168.63.129.16", "fd00:ec2::254"):
        assert leads(wished, table_of(3), text) == OUT
    assert leads(wished, table_of(3), "100.100.100.201") == TUNNEL


@pytest.mark.parametrize("order", [0, 3])
def test_with_an_exit_node_only_what_lans_have_goes_before(order: int) -> None:
    """Not what a LAN's DHCP server or router says is in it, nor halves of the internet."""
    routing = Routing({}, EVERYTHING, exit="n2")
    [*lans] = sorted(table(routing, order=order).rules & rules_of(order).lans)
    first = priority_of(rules_of(order).lan)
    assert [(family, rule.partition(" to ")[2]) for family, rule in lans] == [
        (4, "10.0.0.0/8 table main suppress_prefixlength 11"),
        (4, "100.64.0.0/10 table main suppress_prefixlength 11"),
        (4, "172.16.0.0/12 table main suppress_prefixlength 11"),
        (4, "192.168.0.0/16 table main suppress_prefixlength 11"),
        (6, "fc00::/7 table main suppress_prefixlength 47"),
    ]
    assert {priority_of(rule) for _, rule in lans} == {first}
    assert not {rule for _, rule in table(routing, order=order).rules} & {rules_of(order).lan}


def test_beside_another_networks_exit_node_a_network_sees_to_its_wide_and_public_ranges() -> None:
    view = replace(view_of(), addresses=("10.20.0.1", "fd20::1"))
    assert compile_table(1, view, Routing({}), any_exit=True) == NO_TABLE
    public = replace(view, cidrs=("203.0.113.0/24", "fd20::/64"))
    found = compile_table(1, public, Routing({}), any_exit=True)
    assert found.led == {"203.0.113.0/24"}
    assert (4, rules_of(1).ranges) in found.rules
    assert compile_table(1, public, Routing({})) == NO_TABLE
    ours = compile_table(1, view, Routing({}, (LAN,)), any_exit=True).rules
    assert not ours & rules("lan", order=1), "it would open what the exit node's keeps shut"


@given(tables)
def test_without_its_interface_an_exit_node_lets_nothing_out(want: RouteTable) -> None:
    """The kernel takes away the routes of an interface that goes, and leaves the rules."""
    gone = replace(want, led=frozenset())
    for text in ("198.51.100.7", "2001:db8::7"):
        assert leads(gone, table_of(3), text) == (NOWHERE if leaves(want) else OUT)


@given(pairs)
def test_what_is_led_before_and_after_is_led_all_the_while(
    pair: tuple[RouteTable, RouteTable],
) -> None:
    """And never is the LAN led away, or a packet of WireGuard's own."""
    live, want = pair
    number = table_of(3)
    steps = walk(want, live).log
    for text, cidr in PLACES.items():
        where = {leads(state, number, text) for state in steps}
        if leaves(live) == leaves(want) or cidr in live.led & want.led:
            assert where <= {leads(state, number, text) for state in pair}
        assert {leads(state, number, text, marked=True) for state in steps} == {OUT}
    for text in ("192.168.1.7", "fd00:1::7"):
        assert {leads(state, number, text) for state in steps} == {OUT}


@given(states(), wishes_of_any)
def test_rules_come_after_the_routes_and_go_before_them(live: RouteTable, want: RouteTable) -> None:
    for state in walk(want, live).log:
        assert led(want, state.rules - live.rules) <= state.led
        assert led(live, state.rules - want.rules) <= state.led


def led(found: RouteTable, rules: Collection[tuple[int, str]]) -> set[str]:
    """What the table leads of the families that the rules are of."""
    families = {family for family, _ in rules}
    return {cidr for cidr in found.led if (6 if ":" in cidr else 4) in families}


def leaves(found: RouteTable) -> bool:
    """Whether everything goes by an exit node."""
    return bool(found.rules & rules_of(3).closed)


def test_a_person_is_told_of_each_route() -> None:
    want = table(Routing({}, (LAN, *EVERYTHING), exit="n2"), six=False)
    assert describe_table(0, want, NO_TABLE) == [
        "route 0.0.0.0/0 into the tunnel",
        f"route {LAN} into the tunnel",
        "let no IPv6 leave",
    ]
    assert describe_table(0, NO_TABLE, want) == [
        "no longer route 0.0.0.0/0 into the tunnel",
        f"no longer route {LAN} into the tunnel",
    ]
    half = replace(want, rules=frozenset())
    assert describe_table(0, replace(want, rules=half.rules), want) == [
        "put the routing rules in place"
    ]
