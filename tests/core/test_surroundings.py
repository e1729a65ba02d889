"""What a network needs beside its interface, and what of it stays while that is down."""

from __future__ import annotations

from dataclasses import replace

import pytest

from nmk.core.gateways import Exit, Gateway
from nmk.core.nft_text import Own
from nmk.core.parse import EVERYTHING
from nmk.core.peers import View
from nmk.core.route_table import NO_TABLE, compile_table
from nmk.core.routes import RouteWishes, Routing
from nmk.core.ruleset import KILL, render_ruleset
from nmk.core.surroundings import (
    IPV4_FORWARDING,
    IPV6_FORWARDING,
    NOTHING,
    VALID_MARK,
    Surroundings,
    compile_kill_switch,
    compile_surroundings,
)
from tests.core.made import EXIT, INGRESS, made_egress, made_mesh, made_node, made_view

LAN, SIX = "192.168.7.0/24", "fd00:7::/48"
OWN = Own("nmk-home", "nmk-home", (("eth0", "192.168.1.0/24"),))
LED = Routing({}, (LAN,))
CUT_OFF = RouteWishes(exit_node="n2", kill_switch=True, guarded=True)


def view_of(gateway: Gateway | None = None, *, four: bool = True, six: bool = False) -> View:
    node = made_node(
        1,
        gateway=gateway or Gateway(),
        address4="10.20.0.1" if four else None,
        address6="fd20::1" if six else None,
    )
    cidr4, cidr6 = "10.20.0.0/24" if four else None, "fd20::/64" if six else None
    return made_view(made_mesh(node, cidr4=cidr4, cidr6=cidr6))


def around(
    view: View, routing: Routing | None = None, wishes: RouteWishes | None = None
) -> Surroundings:
    return compile_surroundings(OWN, 3, view, routing or Routing({}), wishes or RouteWishes())


def test_who_is_no_gateway_and_follows_none_needs_nothing() -> None:
    assert around(view_of(four=True, six=True)) == NOTHING
    assert Surroundings(None, NO_TABLE, {}, forwards=False) == NOTHING


@pytest.mark.parametrize(
    ("gateway", "six", "sysctls"),
    [
        (INGRESS, False, {IPV4_FORWARDING}),
        (EXIT, False, {IPV4_FORWARDING}),
        (made_egress(LAN), False, {IPV4_FORWARDING}),
        (INGRESS, True, {IPV4_FORWARDING, IPV6_FORWARDING}),
        (EXIT, True, {IPV4_FORWARDING, IPV6_FORWARDING}),
        (made_egress(SIX), False, {IPV4_FORWARDING, IPV6_FORWARDING}),
    ],
)
def test_a_gateway_forwards_the_families_that_it_carries(
    gateway: Gateway, six: bool, sysctls: set[str]
) -> None:
    found = around(view_of(gateway, six=six))
    assert found.forwards
    assert found.sysctls == dict.fromkeys(sysctls, "1")
    assert found.ruleset == render_ruleset(
        OWN, view_of(gateway, six=six), Routing({}), RouteWishes()
    )
    assert found.ruleset
    assert found.table == NO_TABLE


@pytest.mark.parametrize(
    ("gateway", "routing", "wishes", "alone"),
    [
        (Gateway(), Routing({}), RouteWishes(), True),
        (EXIT, Routing({}), RouteWishes(), False),
        (Gateway(), LED, RouteWishes(), False),
        (Gateway(), Routing({}), CUT_OFF, False),
    ],
)
def test_a_table_that_is_there_for_the_machines_own_forwarding_alone_is_known(
    gateway: Gateway, routing: Routing, wishes: RouteWishes, alone: bool
) -> None:
    own = replace(OWN, forwards=True)
    found = compile_surroundings(own, 3, view_of(gateway), routing, wishes)
    assert found.ruleset
    assert found.is_wall == alone
    assert not around(view_of(gateway), routing, wishes).is_wall


def test_a_gateway_of_ipv6_alone_forwards_no_ipv4() -> None:
    found = around(view_of(EXIT, four=False, six=True))
    assert found.sysctls == {IPV6_FORWARDING: "1"}


def test_who_is_led_has_a_table_and_filters_by_the_mark() -> None:
    found = around(view_of(), LED)
    assert found.sysctls == {VALID_MARK: "1"}
    assert not found.forwards
    assert found.table == compile_table(3, view_of(), LED) != NO_TABLE
    assert found.ruleset


def test_a_gateway_may_follow_others() -> None:
    found = around(view_of(Gateway(exit=Exit())), LED)
    assert found.sysctls == {IPV4_FORWARDING: "1", VALID_MARK: "1"}
    assert found.forwards


def test_while_the_interface_is_down_only_the_kill_switch_stays() -> None:
    view = view_of(Gateway(exit=Exit()))
    assert compile_kill_switch(OWN, view, RouteWishes(exit_node="n2", guarded=True)) == NOTHING
    found = compile_kill_switch(OWN, view, CUT_OFF)
    assert found.ruleset
    names = [line.split()[1] for line in found.ruleset.splitlines() if line.startswith("\tchain")]
    assert tuple(names) == KILL
    assert (found.table, found.sysctls, found.forwards) == (NO_TABLE, {}, False)
    up = around(view_of(), Routing({}, EVERYTHING, exit="n2"), CUT_OFF).ruleset
    assert up
    assert found.ruleset.partition("\n")[2] in up  # the same, whether it is up or down
