"""The packet filter of a network: nft takes it, and it says what the roles and wishes ask for."""

from __future__ import annotations

import os
import shutil
import subprocess
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nmk.core.gateways import NATS, Egress, Exit, Gateway, Ingress
from nmk.core.links import is_lan
from nmk.core.nft_text import Own
from nmk.core.parse import EVERYTHING
from nmk.core.peers import View
from nmk.core.routes import RouteWishes, Routing, compile_routing
from nmk.core.ruleset import KILL, is_ours, render_kill_switch, render_ruleset
from nmk.core.tunnel import MARK
from tests.core.made import EXIT, INGRESS, made_client, made_mesh, made_node, made_view

LAN, OFFICE, SIX, PUBLIC = "192.168.7.0/24", "10.9.0.0/16", "fd00:7::/48", "8.8.8.0/24"
BEHIND = "192.168.50.0/24"  # an ext client
OWN = Own("nmk-home", "nmk-home", (("eth0", "192.168.1.0/24"),))
NEAR = "ip saddr != { 192.168.1.0/24 }"
LED = Routing({}, (LAN,))
OUT = Routing({}, EVERYTHING, exit="n2")
PLAIN = RouteWishes()
LEAVING = RouteWishes(exit_node="n2", guarded=True)
INBOUND = ("inbound-input", "inbound-forward")
MARKS = {"premark", "answer", "postmark"}
GUARDS = {"guard-input", "guard-postrouting"}
FORWARDS = {"links", "forward", "output"}
ALWAYS = "tunnel-input"
LEAVES = "type filter hook postrouting priority filter; policy accept;"
DNAT = "ct status dnat accept"
CUT_OFF = RouteWishes(exit_node="n2", kill_switch=True, guarded=True)
Chains = dict[str, list[str]]

needs_nft = pytest.mark.skipif(
    os.geteuid() != 0 or shutil.which("nft") is None, reason="nft's own checks need root and nft"
)


def view_of(gateway: Gateway | None = None, *others: Gateway, six: bool = True) -> View:
    """A view of n1, dual stack where nothing else is said; others are n2 and so on."""
    nodes = [
        made_node(n, gateway=g, address6=f"fd20::{n}" if six else None)
        for n, g in enumerate((gateway or Gateway(), *others), start=1)
    ]
    return made_view(made_mesh(*nodes, made_client(1), cidr6="fd20::/64" if six else None))


def at(interface: str, *cidrs: str) -> tuple[tuple[str, str], ...]:
    """LANs of the machine's at an interface."""
    return tuple((interface, cidr) for cidr in cidrs)


def egress(*ranges: str, nat: str = "auto", interface: str | None = None) -> Gateway:
    return Gateway(egress=Egress(ranges, nat, interface))  # type: ignore[arg-type]  # nat


def chains(
    view: View, routing: Routing = LED, wishes: RouteWishes = PLAIN, own: Own = OWN
) -> Chains:
    """The lines of each chain."""
    text = render_ruleset(own, view, routing, wishes)
    assert text
    first, *lines, last = text.splitlines()
    assert (first, last) == (f"table inet {own.table} {{", "}")
    found: Chains = {}
    name = ""
    for line in lines:
        match line.split():
            case ["chain", name, "{"]:
                found[name] = []
            case ["}"]:
                name = ""
            case words:
                found[name].append(" ".join(words))
    return found


def masquerades(view: View) -> list[str]:
    return [line for line in chains(view).get("postrouting", []) if line.endswith(" masquerade")]


# --- whether there is one


def test_who_needs_nothing_has_no_table() -> None:
    assert render_ruleset(OWN, view_of(), Routing({}), PLAIN) is None
    assert render_ruleset(OWN, view_of(Gateway(), INGRESS, EXIT), Routing({}), PLAIN) is None
    assert render_ruleset(OWN, view_of(), Routing({}), RouteWishes(exit_node="n9")) is None


def test_a_kill_switch_without_an_exit_node_cuts_nobody_off() -> None:
    assert render_ruleset(OWN, view_of(), Routing({}), RouteWishes(kill_switch=True)) is None


@pytest.mark.parametrize(
    ("gateway", "routing", "wishes", "names"),
    [
        (Gateway(), LED, PLAIN, MARKS),
        (Gateway(), OUT, PLAIN, {*MARKS, *INBOUND}),
        (Gateway(), OUT, LEAVING, {*MARKS, *GUARDS, *INBOUND}),
        (Gateway(), Routing({}), LEAVING, GUARDS),
        (Gateway(), Routing({}), CUT_OFF, {*GUARDS, *KILL}),
        (INGRESS, Routing({}), PLAIN, FORWARDS),
        (EXIT, Routing({}), PLAIN, {*FORWARDS, "postrouting"}),
        (EXIT, OUT, LEAVING, {*FORWARDS, "postrouting", *GUARDS, *MARKS, *INBOUND}),
        (INGRESS, Routing({}), LEAVING, {*FORWARDS, *GUARDS}),
    ],
)
def test_which_chains_there_are(
    gateway: Gateway, routing: Routing, wishes: RouteWishes, names: set[str]
) -> None:
    assert chains(view_of(gateway), routing, wishes).keys() == {ALWAYS, *names}


# --- what a gateway forwards


def test_an_ingress_gateway_forwards_into_the_tunnel_and_nowhere_else() -> None:
    assert chains(view_of(INGRESS))["forward"] == [
        "type filter hook forward priority filter; policy accept;",
        'oifname "nmk-home" tcp flags syn / syn,rst tcp option maxseg size set rt mtu',
        'iifname != "nmk-home" oifname "nmk-home" ip saddr { 10.20.0.0/24 } drop',
        'iifname != "nmk-home" oifname "nmk-home" ip6 saddr { fd20::/64 } drop',
        'iifname != "nmk-home" accept',
        "ct state established,related accept",
        "ct status dnat accept",
        'oifname "nmk-home" accept',
        "counter drop",
    ]
    assert masquerades(view_of(INGRESS)) == []


def test_an_egress_gateway_forwards_to_its_ranges_alone() -> None:
    forward = chains(view_of(egress(LAN, OFFICE, SIX)))["forward"]
    assert forward[7:] == [
        f'oifname != "nmk-home" ip daddr {{ {OFFICE}, {LAN} }} accept',
        f'oifname != "nmk-home" ip6 daddr {{ {SIX} }} accept',
        "counter drop",
    ]
    assert chains(view_of(egress(SIX, interface="eth1")))["forward"][7:] == [
        f'oifname "eth1" ip6 daddr {{ {SIX} }} accept',
        "counter drop",
    ]


def test_an_exit_gateway_forwards_everything_out_of_the_tunnel() -> None:
    assert chains(view_of(EXIT))["forward"][7:] == ['oifname != "nmk-home" accept', "counter drop"]
    there = Gateway(exit=Exit(interface="ppp0"))
    assert chains(view_of(there))["forward"][7:] == ['oifname "ppp0" accept', "counter drop"]


def test_roles_stand_side_by_side() -> None:
    gateway = Gateway(Ingress(), Egress((LAN,), interface="eth1"), Exit(interface="ppp0"))
    assert chains(view_of(gateway))["forward"][7:] == [
        'oifname "nmk-home" accept',
        f'oifname "eth1" ip daddr {{ {LAN} }} accept',
        'oifname "ppp0" accept',
        "counter drop",
    ]


@pytest.mark.parametrize("gateway", [INGRESS, egress(LAN), EXIT])
def test_no_gateway_redirects_its_peers(gateway: Gateway) -> None:
    assert chains(view_of(gateway))["output"] == [
        "type filter hook output priority filter; policy accept;",
        'oifname "nmk-home" icmp type redirect drop',
        'oifname "nmk-home" icmpv6 type nd-redirect drop',
    ]


@pytest.mark.parametrize("gateway", [INGRESS, egress(LAN), EXIT, egress("169.0.0.0/8")])
def test_no_gateway_passes_on_what_is_on_a_link_alone(gateway: Gateway) -> None:
    own = replace(OWN, subnets=at("eth0", "100.100.100.0/24"))  # this LAN's, so no provider's
    found = chains(view_of(gateway), own=own)
    head, four, six = found["links"]
    assert head == "type filter hook prerouting priority raw; policy accept;"
    assert four == 'iifname "nmk-home" ip daddr { 168.63.129.16/32 } drop'
    assert six == (
        'iifname "nmk-home" ip6 daddr { fd00:42::42/128, fd00:c1::a9fe:a9fe/128, fd00:ec2::/32, '
        "fd20:ce::254/128 } drop"
    )
    assert found[ALWAYS] == chains(view_of(), Routing({}), own=replace(OWN, loopback=True))[ALWAYS]


def test_nobody_in_a_tunnel_is_on_a_link_of_this_machine() -> None:
    own = replace(OWN, loopback=True)  # the one need of a table that has no other
    found = chains(view_of(), Routing({}), own=own)
    four = "{ 0.0.0.0/8, 127.0.0.0/8, 169.254.0.0/16, 224.0.0.0/4, 255.255.255.255/32 }"
    six = "{ ::/127, ::ffff:0:0/96, fe80::/10, ff00::/8 }"
    finds = "nd-router-solicit, nd-router-advert, nd-neighbor-solicit, nd-neighbor-advert"
    assert found == {
        ALWAYS: [
            "type filter hook prerouting priority raw; policy accept;",
            f'iifname "nmk-home" ip saddr {four} drop',
            f'iifname "nmk-home" ip daddr {four} drop',
            f'iifname "nmk-home" ip6 saddr {six} drop',
            f'iifname "nmk-home" ip6 daddr {six} drop',
            'iifname "nmk-home" icmp type { redirect, router-advertisement } drop',
            f'iifname "nmk-home" icmpv6 type {{ {finds}, nd-redirect }} drop',
            'iifname != { "lo", "nmk-home" } ip saddr { 10.20.0.0/24 } drop',
            'iifname != { "lo", "nmk-home" } ip6 saddr { fd20::/64 } drop',
        ]
    }
    assert is_ours(render_ruleset(own, view_of(), Routing({}), PLAIN) or "")
    assert chains(view_of(), OUT, CUT_OFF)[ALWAYS] == found[ALWAYS]


CALLED = "saddr { 10.20.0.64/26 } ip daddr 10.20.0.1 drop"


def test_own_containers_in_the_meshs_range_may_call_the_node() -> None:
    inside = at("docker0", "10.20.0.64/26")
    own = replace(OWN, subnets=inside, inner=inside)
    view = replace(view_of(), gateway=Gateway(egress=Egress((LAN,))))
    assert not any(line.endswith(CALLED) for line in chains(view, own=own)[ALWAYS])
    own = replace(own, inner=())
    assert any(line.endswith(CALLED) for line in chains(view, own=own)[ALWAYS])


def test_an_address_of_the_mesh_has_beside_it_only_who_it_is_left_to() -> None:
    """By the interface that it is at, or that its answers go by."""
    lans = at("eth1", "10.0.0.0/8", "10.20.0.64/26", "192.168.1.0/24", "fd20::/64")
    rivals = (("wg7", "10.20.0.0/25"), ("wg8", "10.99.0.0/24"))
    own = replace(OWN, subnets=lans, meshes=("wg7", "wg8"), rivals=rivals)
    mapped = {"10.9.7.0/24": "10.20.0.192/26", "10.9.8.0/24": "192.168.5.0/24"}
    view = replace(view_of(), gateway=Gateway(egress=Egress(tuple(mapped), mapped=mapped)))
    beside, others = 'iifname != { "lo", "nmk-home" }', '!= { "nmk-home", "wg7", "wg8" }'
    assert [x for x in chains(view, own=own)[ALWAYS] if not x.startswith('iifname "nmk-home"')] == [
        "type filter hook prerouting priority raw; policy accept;",
        'iifname "wg7" ip saddr { 10.20.0.0/25 } accept',
        f"{beside} ip saddr {{ 10.20.0.64/26 }} ip daddr 10.20.0.1 drop",
        f"{beside} ip6 saddr {{ fd20::/64 }} ip6 daddr fd20::1 drop",
        'iifname "eth1" ip saddr { 10.20.0.64/26 } accept',
        'iifname "eth1" ip6 saddr { fd20::/64 } accept',
        f"iifname {others} ip saddr {{ 10.20.0.192/26 }} fib saddr . iif oif exists accept",
        f"{beside} ip saddr {{ 10.20.0.0/24 }} drop",
        f"{beside} ip6 saddr {{ fd20::/64 }} drop",
    ]


def test_no_mapped_range_leads_to_what_is_on_a_link_alone() -> None:
    mapped = {
        "10.200.0.0/15": "169.254.0.0/15",  # half of it
        "10.9.8.0/28": "169.254.169.240/28",  # part of what is kept
        "10.9.7.0/24": LAN,
        "fd77::/48": "fd00:ec2::/48",
        "10.9.9.9/32": "168.63.129.16/32",
    }
    gateway = Gateway(egress=Egress(tuple(mapped), mapped=mapped))
    _, four, six = chains(replace(view_of(), gateway=gateway))["links"]
    kept = set(four.removesuffix(" } drop").partition("{ ")[2].split(", "))
    plain = {"100.100.100.200/32", "168.63.129.16/32"}
    assert kept == {*plain, "10.200.0.0/16", "10.9.8.0/28", "10.9.9.9/32"}
    assert ", fd77::/48 }" in six


def test_a_gateway_is_no_way_between_the_networks_of_its_machine() -> None:
    own = replace(OWN, meshes=("nmk-lab", "wg7"))
    for gateway in (INGRESS, egress("10.99.0.0/24"), EXIT, egress("10.99.0.0/24", interface="wg7")):
        forward = chains(view_of(gateway), own=own)["forward"]
        to, back = 'oifname { "nmk-lab", "wg7" } drop', 'iifname { "nmk-lab", "wg7" } oifname "nmk'
        accepts = [n for n, line in enumerate(forward) if line.endswith(" accept")]
        assert forward[accepts[0]] == 'iifname != "nmk-home" accept'
        assert forward[accepts[0] + 1] == to
        assert any(line.startswith(back) for line in forward[: accepts[0]])


def test_nobody_in_a_lan_speaks_as_one_behind_somebody_else() -> None:
    mesh = made_mesh(
        made_node(1, gateway=Gateway(Ingress(), Egress((LAN,)))),
        made_node(2, gateway=egress(OFFICE)),
        made_client(1, routes=("192.168.50.0/24",)),
    )
    others = f"{{ {OFFICE}, 192.168.50.0/24 }} ip saddr != {{ {LAN} }}"
    drop = f'iifname != "nmk-home" oifname "nmk-home" ip saddr {others} drop'
    claimed = replace(OWN, subnets=at("eth0", "192.168.1.0/24", "192.168.50.0/24"))  # DHCP
    forward = chains(made_view(mesh), own=claimed)["forward"]
    assert forward.index(drop) < forward.index('iifname != "nmk-home" accept')
    assert not any("192.168.50.0/24" in line and "accept" in line for line in forward)
    inner = (("docker0", "10.9.3.0/24"), ("docker0", "172.17.0.0/16"))
    bridged = chains(made_view(mesh), own=replace(claimed, inner=inner))["forward"]
    own = 'oifname "nmk-home" iifname "docker0" ip saddr { 10.9.3.0/24 } accept'
    assert [line for line in bridged if line not in forward] == [own], "its containers go on"
    assert bridged.index(own) < bridged.index(drop)


# --- what a machine forwards for its own reasons, or for another network


def test_who_forwards_without_a_role_passes_nothing_on_for_the_network() -> None:
    own = replace(OWN, forwards=True)
    found = chains(view_of(), Routing({}), own=own)
    assert found.keys() == {ALWAYS, *FORWARDS}
    assert found["forward"][4:] == [
        'iifname != "nmk-home" accept',
        "ct state established,related accept",
        "ct status dnat accept",
        "counter drop",
    ]
    assert found["links"] == chains(view_of(INGRESS))["links"]
    led = chains(view_of(), OUT, LEAVING, own=own)
    assert led.keys() == {ALWAYS, *FORWARDS, *MARKS, *GUARDS, *INBOUND}


@pytest.mark.parametrize("gateway", [Gateway(), INGRESS, egress(LAN), EXIT])
def test_what_comes_by_a_network_without_a_role_is_not_forwarded_for_this_one(
    gateway: Gateway,
) -> None:
    own = replace(OWN, meshes=("nmk-lab", "wg7"), closed=("wg7",), forwards=True)
    forward = chains(view_of(gateway), Routing({}), own=own)["forward"]
    passes = forward.index('iifname != { "nmk-home", "wg7" } accept')
    drop = forward.index('iifname { "wg7" } drop')
    assert [line for line in forward[:drop] if line.endswith(" accept")] == [
        forward[passes],
        "ct state established,related accept",
        "ct status dnat accept",
    ]


# --- whose a table is


@pytest.mark.parametrize(
    ("gateway", "routing", "wishes"),
    [
        (INGRESS, Routing({}), PLAIN),
        (EXIT, LED, PLAIN),
        (Gateway(), LED, PLAIN),
        (Gateway(), Routing({}), LEAVING),
        (Gateway(), Routing({}), CUT_OFF),
        (Gateway(), Routing({}), RouteWishes(exit_node="n2", kill_switch=True)),
    ],
)
def test_a_table_of_nmks_is_told_by_its_chains(
    gateway: Gateway, routing: Routing, wishes: RouteWishes
) -> None:
    assert is_ours(render_ruleset(OWN, view_of(gateway), routing, wishes) or "")


@pytest.mark.parametrize(
    "chains",
    [[], ["forward"], ["forward", "output", "postrouting", "prerouting", "input"], ["links"]],
)
def test_a_table_of_others_is_not(chains: list[str]) -> None:
    rules = "".join(f"\tchain {name} {{\n\t\tdrop\n\t}}\n" for name in chains)
    assert not is_ours(f"table inet nmk-backup {{\n{rules}}}\n")


@pytest.mark.parametrize("chain", ["kill-output", "guard-output", "premark"])
def test_a_table_of_an_older_nmk_is_ours(chain: str) -> None:
    assert is_ours(f"table inet nmk-home {{\n\tchain {chain} {{\n\t\tdrop\n\t}}\n}}\n")


def test_a_gateways_table_of_nmk_0_2_0_is_ours() -> None:
    assert is_ours(
        "table inet nmk-home {\n\tchain forward {\n\t\tdrop\n\t}\n\tchain output {\n"
        '\t\toifname "nmk-home" icmpv6 type nd-redirect drop\n\t}\n}\n'
    )


# --- what it translates


def test_what_comes_from_the_mesh_and_from_ranges_behind_it_is_translated() -> None:
    view = view_of(egress(LAN, SIX), egress(OFFICE), egress("fd00:9::/48"))
    near = "192.168.1.0/24, 192.168.7.0/24"  # never was in the mesh
    four = f"ip saddr {{ {OFFICE}, 10.20.0.0/24 }} ip saddr != {{ {near} }} ip daddr {{ {LAN} }}"
    six = f"ip6 saddr {{ fd00:9::/48, fd20::/64 }} ip6 saddr != {{ {SIX} }} ip6 daddr {{ {SIX} }}"
    assert masquerades(view) == [f'oifname != "nmk-home" {x} masquerade' for x in (four, six)]


def test_an_exit_gateway_translates_both_families() -> None:
    assert masquerades(view_of(Gateway(exit=Exit(interface="ppp0")))) == [
        f'oifname "ppp0" ip saddr {{ 10.20.0.0/24 }} {NEAR} masquerade',
        'oifname "ppp0" ip6 saddr { fd20::/64 } masquerade',
    ]
    assert masquerades(view_of(EXIT, six=False)) == [
        f'oifname != "nmk-home" ip saddr {{ 10.20.0.0/24 }} {NEAR} masquerade'
    ]


@pytest.mark.parametrize("gateway", [egress(LAN, SIX, nat="off"), Gateway(exit=Exit("off"))])
def test_with_nat_off_nothing_is_translated(gateway: Gateway) -> None:
    assert "postrouting" not in chains(view_of(gateway, egress(OFFICE)))


def test_what_is_globally_routable_is_translated_only_where_that_is_asked_for() -> None:
    private = "ip saddr { 10.20.0.0/24 }"
    both = f"ip saddr {{ {PUBLIC}, 10.20.0.0/24 }}"
    for nat, sources in (("auto", private), ("on", both)):
        view = view_of(egress(LAN, nat=nat), egress(PUBLIC))
        near = f"ip saddr != {{ 192.168.1.0/24, {LAN} }}"
        rule = f'oifname != "nmk-home" {sources} {near} ip daddr {{ {LAN} }} masquerade'
        assert masquerades(view) == [rule]
        view = view_of(Gateway(exit=Exit(nat)), egress(PUBLIC), six=False)  # type: ignore[arg-type]
        assert masquerades(view) == [f'oifname != "nmk-home" {sources} {NEAR} masquerade']


def test_a_mesh_of_public_addresses_is_not_translated() -> None:
    mesh = made_mesh(made_node(1, gateway=EXIT, address4="8.8.4.1"), cidr4="8.8.4.0/24")
    assert "postrouting" not in chains(made_view(mesh))


# --- who is led, and who is cut off


def test_answers_to_marked_packets_carry_the_mark() -> None:
    found = chains(view_of(), LED)
    assert found["premark"][1] == f"ct mark {MARK:#x} meta mark set ct mark"
    assert found["postmark"][1:] == [f"meta mark {MARK:#x} ct mark set meta mark"]


def test_who_calls_from_outside_is_answered_outside_unless_that_is_cut_off() -> None:
    found = chains(view_of(), LED, own=replace(OWN, meshes=("nmk-lab",)))
    outside = 'iifname != { "nmk-home", "nmk-lab" }'
    called = f"{outside} ct mark 0 ct direction original fib daddr type local"
    assert found["premark"][2:] == [f"{called} ct mark set {MARK:#x} meta mark set {MARK:#x}"]
    mark = f"ct mark set {MARK:#x} meta mark set {MARK:#x}"
    first, *later = found["answer"][1:]
    assert first == f"ct mark {MARK:#x} meta mark set ct mark"
    assert later == [
        f'oifname "nmk-home" {family} daddr != {{ {cidr} }} {family} saddr != {{ {mine} }} '
        f"ct mark 0 {begun} {mark}"
        for family, cidr, mine in (
            ("ip", "10.20.0.0/24", "10.20.0.1/32"),
            ("ip6", "fd20::/64", "fd20::1/128"),
        )
        for begun in (
            "ct direction reply",
            "ct state new tcp flags & syn == 0x0 tcp sport < 32768",
        )
    ]
    lower = chains(view_of(), LED, own=replace(OWN, lowest_port=1024))["answer"]
    assert [line for line in lower if "tcp sport < 1024 " in line] == lower[3::2]
    only_four = chains(view_of(six=False), LED)["answer"]
    assert [line.partition(" ct mark 0")[0] for line in only_four[2:]] == [
        *['oifname "nmk-home" ip daddr != { 10.20.0.0/24 } ip saddr != { 10.20.0.1/32 }'] * 2,
        *['oifname "nmk-home" meta nfproto ipv6'] * 2,
    ]


@pytest.mark.parametrize(
    ("wishes", "own"),
    [
        (RouteWishes(exit_node="n9", kill_switch=True), OWN),
        (PLAIN, replace(OWN, kept_in=True)),
        (LEAVING, replace(OWN, kept_in=True)),
    ],
)
def test_nobody_is_answered_outside_past_a_kill_switch_of_any_network(
    wishes: RouteWishes, own: Own
) -> None:
    found = chains(view_of(), LED, wishes, own)
    assert found["premark"][1:] == [f"ct mark {MARK:#x} meta mark set ct mark"]
    assert "answer" not in found


def test_who_had_an_exit_node_uses_mesh_addresses_in_the_mesh_alone() -> None:
    found = chains(view_of(), OUT, LEAVING)
    assert found["guard-input"][1:] == [
        'iifname != { "lo", "nmk-home" } ip daddr 10.20.0.1 drop',
        'iifname != { "lo", "nmk-home" } ip6 daddr fd20::1 drop',
    ]
    assert found["guard-postrouting"] == [
        LEAVES,
        'oifname != { "lo", "nmk-home" } ip saddr 10.20.0.1 drop',
        'oifname != { "lo", "nmk-home" } ip6 saddr fd20::1 drop',
    ]


def test_a_role_opens_mesh_addresses_to_the_lans_that_it_routes_alone() -> None:
    own = replace(OWN, meshes=("nmk-lab",))
    plain = chains(view_of(), OUT, LEAVING, own)
    for gateway in (INGRESS, EXIT):
        found = chains(view_of(gateway), OUT, LEAVING, own)
        assert {name: found[name] for name in GUARDS} == {name: plain[name] for name in GUARDS}
    seen = {"10.9.7.0/24": LAN}
    by = '!= { "nmk-home", "nmk-lab" }'
    for interface, words in ((None, by), ("eth1", '"eth1"')):
        gateway = Gateway(egress=Egress((*seen, SIX), interface=interface, mapped=seen))
        found = chains(replace(view_of(), gateway=gateway), OUT, LEAVING, own)
        assert found["guard-input"] == [
            plain["guard-input"][0],
            f"iifname {words} ip saddr {{ {LAN} }} fib saddr . iif oif exists accept",
            f"iifname {words} ip6 saddr {{ {SIX} }} fib saddr . iif oif exists accept",
            *plain["guard-input"][1:],
        ]
        assert found["guard-postrouting"] == [
            plain["guard-postrouting"][0],
            f"oifname {words} ip daddr {{ {LAN} }} accept",
            f"oifname {words} ip6 daddr {{ {SIX} }} accept",
            *plain["guard-postrouting"][1:],
        ]


def test_by_an_exit_node_nothing_begins_but_from_the_mesh_and_what_it_routes() -> None:
    view = view_of(Gateway(), EXIT, egress(OFFICE, "10.9.7.0/24"), egress(LAN))
    begins = 'iifname "nmk-home" ct state new'
    rules = [
        f"{begins} ip saddr != {{ {OFFICE}, 10.20.0.0/24, {LAN} }} drop",
        f"{begins} ip6 saddr != {{ fd20::/64 }} drop",
    ]
    for hook in ("input", "forward"):
        head = f"type filter hook {hook} priority filter; policy accept;"
        assert chains(view, OUT)[f"inbound-{hook}"] == [head, *rules]
    only_four = chains(view_of(Gateway(), EXIT, six=False), OUT)["inbound-input"]
    assert only_four[1:] == [
        f"{begins} ip saddr != {{ 10.20.0.0/24 }} drop",
        f"{begins} meta nfproto ipv6 drop",
    ]


NO_LANS = (
    "10.0.0.0/8",
    "44.0.0.0/8",
    "198.51.100.0/24",
    "0.0.0.0/1",
    "2001:db8:1::/64",
    "fd00::/16",
)


def test_a_kill_switch_lets_out_only_what_goes_by_the_tunnel_or_to_the_lan() -> None:
    lans = at("eth0", "192.168.1.0/24", "192.168.0.0/16", "fd00:1::/64", *NO_LANS)
    lans = (*lans, *at("wlan0", "192.168.1.0/24"))
    own = Own("nmk-home", "wg7", lans, ("nmk-lab", "nmk-office"))
    found = chains(view_of(), OUT, CUT_OFF, own)
    tunnel = 'oifname { "lo", "wg7" } accept'
    passes = [
        "ip daddr { 10.20.0.0/24 } drop",
        "ip6 daddr { fd20::/64 } drop",
        'oifname { "nmk-lab", "nmk-office" } accept',
        (
            "ip daddr { 100.100.100.200/32, 168.63.129.16/32, 169.254.0.0/16, 224.0.0.0/4, "
            "255.255.255.255/32 } accept"
        ),
        (
            "ip6 daddr { fd00:42::42/128, fd00:c1::a9fe:a9fe/128, fd00:ec2::/32, fd20:ce::254/128, "
            "fe80::/10, ff00::/8 } accept"
        ),
        'oifname "eth0" ip daddr { 192.168.0.0/16 } accept',
        'oifname "eth0" ip6 daddr { fd00:1::/64 } accept',
        'oifname "wlan0" ip daddr { 192.168.1.0/24 } accept',
        "ip6 hoplimit 255 icmpv6 type { nd-neighbor-solicit, nd-neighbor-advert } accept",
    ]
    dhcp = ["udp sport 68 udp dport 67 accept", "udp sport 546 udp dport 547 accept"]
    assert found["kill-leaving"] == [*passes, *dhcp, "drop"]
    assert found["kill-forward"] == [
        "type filter hook forward priority filter; policy accept;",
        'iifname "wg7" accept',
        tunnel,
        *passes,
        "drop",
    ]
    assert found["kill-postrouting"] == [
        LEAVES,
        tunnel,
        f"meta mark {MARK:#x} meta l4proto tcp ct direction reply goto kill-leaving",
        f"meta mark {MARK:#x} meta l4proto {{ tcp, udp }} accept",
        "meta skuid >= 0 goto kill-leaving",
        "fib saddr type local goto kill-leaving",
    ]


@pytest.mark.parametrize("chain", ["kill-leaving", "kill-forward"])
def test_a_kill_switch_keeps_what_is_led_from_a_lan_that_claims_it(chain: str) -> None:
    """Also while the interface is down; not what the owner does not have led."""
    lans = at("eth0", "10.0.0.0/12", "192.168.50.0/24", "192.168.1.0/24")
    claimed = Own("nmk-home", "nmk-home", lans)
    mesh = made_mesh(
        made_node(1), made_node(2, gateway=egress(OFFICE)), made_client(1, routes=(BEHIND,))
    )
    drop = f"ip daddr {{ {OFFICE}, {BEHIND} }} drop"
    view = made_view(mesh)
    for text in (
        render_ruleset(claimed, view, OUT, CUT_OFF),
        render_kill_switch(claimed, view, CUT_OFF),
    ):
        lines = lines_of(text, chain)
        lan = 'oifname "eth0" ip daddr { 10.0.0.0/12, 192.168.1.0/24, 192.168.50.0/24 } accept'
        assert lines.index(drop) < lines.index(lan)
    declined = render_kill_switch(claimed, view, replace(CUT_OFF, accept=False))
    assert drop not in lines_of(declined, chain)


def test_a_kill_switch_leaves_a_gateway_the_lan_that_it_routes() -> None:
    own = Own("nmk-home", "nmk-home", at("eth1", "10.9.3.0/24", "192.168.50.0/24"))
    view = view_of(egress("10.9.3.0/24"), egress(OFFICE, "10.9.3.0/24", "192.168.50.0/24"))
    lines = lines_of(render_kill_switch(own, view, CUT_OFF), "kill-leaving")
    kept = lines.index('oifname "eth1" ip daddr { 10.9.3.0/24 } accept')
    drop = lines.index(f"ip daddr {{ {OFFICE}, 192.168.50.0/24 }} drop")
    assert (
        kept < drop < lines.index('oifname "eth1" ip daddr { 10.9.3.0/24, 192.168.50.0/24 } accept')
    )


@pytest.mark.parametrize("chain", ["kill-leaving", "kill-forward"])
def test_no_other_network_draws_what_is_for_one_with_a_kill_switch(chain: str) -> None:
    """Not while it is down or deleted either; another network's own range stays its own."""
    rivals = (("nmk-lab", "10.20.0.128/25"), ("nmk-lab", "fd99::/64"))
    own = Own("nmk-home", "nmk-home", (), ("nmk-lab",), rivals=rivals)
    lines = lines_of(render_kill_switch(own, view_of(), CUT_OFF), chain)
    drop = lines.index("ip daddr { 10.20.0.0/24 } drop")
    assert lines.index('oifname "nmk-lab" ip daddr { 10.20.0.128/25 } accept') < drop
    assert drop < lines.index('oifname { "nmk-lab" } accept')
    assert not any("fd99::" in line for line in lines)


def lines_of(text: str | None, chain: str) -> list[str]:
    """The lines of one chain."""
    body = (text or "").partition(f"\tchain {chain} {{\n")[2].partition("\t}\n")[0]
    return [line.strip() for line in body.splitlines()]


@pytest.mark.parametrize(
    ("cidr", "lan"),
    [
        *((cidr, False) for cidr in (*NO_LANS, "203.0.113.7/32", "fe00::/7", "172.16.0.0/11")),
        ("10.16.0.0/12", True),
        ("172.16.0.0/12", True),
        ("192.168.1.0/24", True),
        ("100.64.7.0/24", True),
        ("fd12:3456:789a::/48", True),
        ("fd12:3456:7880::/47", False),
    ],
)
def test_a_lan_is_private_and_not_wide(cidr: str, lan: bool) -> None:
    assert is_lan(cidr) == lan


@pytest.mark.parametrize("chain", ["kill-leaving", "kill-forward"])
def test_a_lan_with_addresses_of_the_mesh_gets_no_packet_of_it(chain: str) -> None:
    own = Own("nmk-home", "wg7", at("eth0", "10.20.0.0/16", "10.20.0.128/25", "fd20::/64"))
    lines = chains(view_of(), OUT, CUT_OFF, own)[chain]
    opens = next(n for n, line in enumerate(lines) if "daddr" in line and "accept" in line)
    for drop in ("ip daddr { 10.20.0.0/24 } drop", "ip6 daddr { fd20::/64 } drop"):
        assert lines.index(drop) < opens


def test_a_kill_switch_holds_when_the_exit_node_is_gone() -> None:
    found = chains(view_of(), Routing({}, problem="there is no node 'n2'"), CUT_OFF)
    assert found["kill-leaving"][-1] == "drop"


# --- nft itself


def accepted(text: str) -> None:
    """nft loads the ruleset into a network of its own, twice, as a renewal does."""
    own = text.split()[2]
    again = f"add table inet {own}\ndelete table inet {own}\n{text}"
    done = subprocess.run(
        ["unshare", "--net", "sh", "-c", "nft -f /dev/fd/0 && nft list ruleset"],
        input=text + again,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, f"{done.stderr}\n{text}"
    assert done.stdout.count("\tchain ") == text.count("\tchain ")
    assert done.stdout.startswith(f"table inet {own} {{")


interfaces = st.sampled_from([None, "eth0", "br-lan.7", "wl+x", "=odd_", "7x", "a" * 15, "accept"])
nats = st.sampled_from(NATS)
cidrs = st.sampled_from(
    [
        *(LAN, "192.168.0.0/16", "192.168.6.0/24", OFFICE, "10.9.7.0/24", "10.9.7.7/32"),
        *("10.10.0.0/15", "172.16.0.0/12", PUBLIC),
        *(SIX, "fd00:7:1::/64", "fd00:7::1/128", "2600:1f00::/24"),
    ]
)
ranges = st.sets(cidrs, min_size=1).map(lambda found: tuple(sorted(found)))
gateways = st.builds(
    Gateway,
    ingress=st.sampled_from([None, Ingress()]),
    egress=st.none() | st.builds(Egress, ranges, nats, interfaces),
    exit=st.none() | st.builds(Exit, nats, interfaces),
)
owns = st.builds(
    Own,
    st.sampled_from(["home", "7", "a--b", "accept", "x" * 63]).map(lambda n: f"nmk-{n}"),
    st.sampled_from(["nmk-home", "wg0", "7x", "wl+x", "accept"]),
    st.lists(st.tuples(st.sampled_from(["eth0", "7x", "br-1"]), cidrs), max_size=4).map(tuple),
    st.sampled_from([(), ("nmk-office",), ("wg1", "accept", "7y")]),
    st.sampled_from([(), ("wg1", "7z")]),
    st.booleans(),
    kept_in=st.booleans(),
)
wishes_ = st.builds(
    RouteWishes,
    accept=st.booleans(),
    exit_node=st.sampled_from([None, "n2"]),
    kill_switch=st.booleans(),
    guarded=st.booleans(),
)


@given(gateways, owns, wishes_)
def test_where_the_kernel_forwards_nothing_passes_but_by_a_role(
    gateway: Gateway, own: Own, wishes: RouteWishes
) -> None:
    view = view_of(gateway, EXIT)
    own = replace(own, forwards=True, closed=own.meshes)
    text = render_ruleset(own, view, compile_routing(view, wishes, [], (), ()), wishes)
    assert text
    assert is_ours(text)
    forward = chains(view, compile_routing(view, wishes, [], (), ()), wishes, own)["forward"]
    led = [x for x in forward if x.endswith(" accept") and "iifname != " not in x]
    roles = [x for x in led if x not in {"ct state established,related accept", DNAT}]
    assert bool(roles) == bool(gateway.roles)
    assert forward[-1] == "counter drop"


@needs_nft
@given(st.lists(gateways, min_size=1, max_size=4), st.booleans(), owns, wishes_)
def test_nft_takes_whatever_comes_of_a_view(
    roles: list[Gateway], six: bool, own: Own, wishes: RouteWishes
) -> None:
    view = view_of(*roles, six=six)
    text = render_ruleset(own, view, compile_routing(view, wishes, [], (), ()), wishes)
    if text is not None:
        accepted(text)


@needs_nft
def test_nft_takes_all_chains_at_once() -> None:
    everything = Gateway(Ingress(), Egress((LAN, SIX)), Exit())
    text = render_ruleset(OWN, view_of(everything, EXIT), OUT, CUT_OFF)
    assert text
    accepted(text)
    text = render_ruleset(OWN, view_of(Gateway(), EXIT), OUT, CUT_OFF)
    assert text
    accepted(text)
