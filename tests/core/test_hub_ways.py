"""Where a hub leads its clients, by rules as services other than its PostUp lay them."""

from __future__ import annotations

from ipaddress import ip_network

import pytest

from nmk.core.hub_ways import Led, Machine, Way, forward_stops, idle_rules, input_stops, led_ways
from nmk.system.iptables_rules import parse_rules

OPEN = "-P INPUT ACCEPT\n-P FORWARD ACCEPT\n-P OUTPUT ACCEPT\n"
NO_NAT = "-P PREROUTING ACCEPT\n-P POSTROUTING ACCEPT\n"
INTERNET = Way(ip_network("1.1.1.1"), "eth0", internet=True)
INTERNET6 = Way(ip_network("2606:4700:4700::1111"), "eth0", internet=True)
LAN = Way(ip_network("192.168.1.0/24"), "eth1")
RANGES = (ip_network("10.8.0.0/24"), ip_network("fd00:8::/64"))
UFW = """\
-P INPUT DROP
-P FORWARD DROP
-N ufw-before-forward
-N ufw-user-input
-A INPUT -j ufw-user-input
-A FORWARD -j ufw-before-forward
-A ufw-before-forward -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
-A ufw-before-forward -i wg0 -j ACCEPT
-A ufw-user-input -p udp -m udp --dport 51820 -j ACCEPT
-A ufw-user-input -i wg0 -p udp -m udp --dport 5353 -j ACCEPT
"""


def machine(filters: str = OPEN, nat: str = NO_NAT, forwards: tuple[int, ...] = (4, 6)) -> Machine:
    tables = [parse_rules(filters, "ip filter")]
    nats = [parse_rules(nat, "ip nat")]
    return Machine(tables, nats, frozenset(forwards), "wg0", "nmk-home", RANGES)


TRANSLATES = {
    "PiVPN": "-s 10.8.0.0/24 -o eth0 -m comment --comment wireguard-nat-rule -j MASQUERADE",
    "Nyr": "-s 10.8.0.0/24 ! -d 10.8.0.0/24 -j SNAT --to-source 203.0.113.9",
    "a wider range": "-s 10.0.0.0/8 -j MASQUERADE --random-fully",
    "everything": "-o eth0 -j MASQUERADE",
}
MAY_TRANSLATE = {
    "a part": "-s 10.8.0.0/25 -o eth0 -j MASQUERADE",
    "what is marked": "-m mark --mark 0x4000/0x4000 -j MASQUERADE",
}
TRANSLATES_NOT = {
    "Docker": "-s 172.17.0.0/16 ! -o docker0 -j MASQUERADE",
    "another interface": "-s 10.8.0.0/24 -o eth1 -j MASQUERADE",
    "another target": "-s 10.8.0.0/24 -d 192.168.1.0/24 -j MASQUERADE",
    "all but that": "! -s 10.8.0.0/16 -o eth0 -j MASQUERADE",
    "a tunnel": "-o wg0 -j MASQUERADE",
}


@pytest.mark.parametrize("rule", TRANSLATES.values(), ids=TRANSLATES)
def test_a_rule_that_translates_clients_is_found(rule: str) -> None:
    found = led_ways(machine(nat=f"{NO_NAT}-A POSTROUTING {rule}\n"), [INTERNET])
    assert found == [Led(INTERNET, "ip nat POSTROUTING", is_sure=True)]


@pytest.mark.parametrize("rule", MAY_TRANSLATE.values(), ids=MAY_TRANSLATE)
def test_a_rule_that_perhaps_translates_clients_is_told_from_one_that_does(rule: str) -> None:
    """As of the latter alone an exit gateway is made."""
    found = led_ways(machine(nat=f"{NO_NAT}-A POSTROUTING {rule}\n"), [INTERNET])
    assert found == [Led(INTERNET, "ip nat POSTROUTING")]


@pytest.mark.parametrize("rule", TRANSLATES_NOT.values(), ids=TRANSLATES_NOT)
def test_a_rule_for_others_is_none_for_clients(rule: str) -> None:
    found = led_ways(machine(nat=f"{NO_NAT}-A POSTROUTING {rule}\n"), [INTERNET])
    assert found == [Led(INTERNET)]


def test_a_rule_before_may_keep_clients_from_being_translated() -> None:
    nat = f"{NO_NAT}-A POSTROUTING -s 10.8.0.0/24 -d 192.168.0.0/16 -j ACCEPT\n"
    nat += "-A POSTROUTING -s 10.8.0.0/24 -j MASQUERADE\n"
    found = led_ways(machine(nat=nat), [INTERNET, LAN])
    assert found == [Led(INTERNET, "ip nat POSTROUTING", is_sure=True), Led(LAN)]


def test_nothing_is_led_where_nothing_is_forwarded() -> None:
    assert led_ways(machine(forwards=()), [INTERNET, LAN]) == []
    assert led_ways(machine(forwards=(4,)), [INTERNET, INTERNET6]) == [Led(INTERNET)]
    dropped = OPEN.replace("FORWARD ACCEPT", "FORWARD DROP")
    assert led_ways(machine(dropped), [INTERNET]) == []
    only_there = f"{dropped}-A FORWARD -i wg0 -j ACCEPT\n"
    assert led_ways(machine(only_there), [INTERNET]) == []
    # Rules of IPv4 say nothing of IPv6.
    nat = f"{NO_NAT}-A POSTROUTING -o eth0 -j MASQUERADE\n"
    assert led_ways(machine(dropped, nat), [INTERNET6]) == [Led(INTERNET6)]


def test_what_ufw_lets_through_by_the_interfaces_name_is_named() -> None:
    found = machine(UFW)
    led = led_ways(found, [INTERNET, LAN])
    assert [one.way for one in led] == [INTERNET, LAN]
    assert [f"{s.table} {s.chain}" for s in forward_stops(found, led)] == ["ip filter FORWARD"]
    [(stop, ports)] = input_stops(found).items()
    assert (stop.chain, ports) == ("INPUT", [("udp", 5353)])


def test_a_filter_that_asks_for_no_interface_lets_the_mesh_through_as_well() -> None:
    found = machine(UFW.replace("-i wg0", "-s 10.8.0.0/24"))
    led = led_ways(found, [INTERNET])
    assert led
    assert forward_stops(found, led) == []
    assert input_stops(found) == {}


def test_where_docker_drops_nmk_has_rules_of_its_own() -> None:
    docker = OPEN.replace("FORWARD ACCEPT", "FORWARD DROP") + (
        "-N DOCKER-USER\n-A FORWARD -j DOCKER-USER\n"
        "-A DOCKER-USER -i wg0 -j ACCEPT\n-A DOCKER-USER -o wg0 -j ACCEPT\n"
    )
    led = led_ways(machine(docker), [INTERNET])
    assert led
    assert forward_stops(machine(docker), led) == []


def test_rules_for_the_interface_that_keep_clients_apart_are_named() -> None:
    apart = f"{OPEN}-A FORWARD -i wg0 -o wg0 -j DROP\n-A FORWARD ! -i wg0 -d 10.9.0.1 -j DROP\n"
    nat = (
        f"{NO_NAT}-A PREROUTING -i wg0 -p udp -m udp --dport 53 -j DNAT --to-destination 10.8.0.1\n"
    )
    assert [*idle_rules(machine(apart, nat))] == [
        ("ip filter", "FORWARD", "drop", 1),
        ("ip nat", "PREROUTING", "redirect", 1),
    ]
