"""No address of a network is taken from whoever has it here already."""

from __future__ import annotations

import json
from ipaddress import IPv4Network, ip_address, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nmk.core.claims import (
    Claim,
    LeftOut,
    find_declined,
    find_inside,
    find_left_out,
    holds,
    summarize,
)
from nmk.core.gateways import Egress, Gateway
from nmk.core.peers import View, parse_view
from nmk.core.room import encode_entry
from nmk.core.settings import effective
from nmk.core.tunnel import Own, compile_tunnel
from tests.core.made import (
    INGRESS,
    key32,
    made_client,
    made_egress,
    made_mesh,
    made_node,
    made_view,
)

OWN = Own("nmk-home", key32(99), 1)


def view(*numbers: int, me: str = "10.20.0.1") -> View:
    """A view of n1, dual stack, with these peers: n2 is 10.20.0.2 and fd20::2."""
    nodes = [made_node(n, address6=f"fd20::{n:x}") for n in numbers]
    return parse_view(
        {
            "network": {"name": "home", "cidrs": ["10.20.0.0/16", "fd20::/64"], **effective({})},
            "self": {"id": "0" * 16, "name": "n1", "addresses": [me, "fd20::1"], "observed": []},
            "peers": {node.id: json.loads(encode_entry(node)) for node in nodes},
        },
        "home",
    )


def left_out(found: View, *ranges: str) -> list[tuple[str, str]]:
    claims = [Claim(text, "eth0") for text in ranges]
    return [(left.node, left.address) for left in find_left_out(found, claims)]


@pytest.mark.parametrize(
    "ranges", [(), ("192.168.1.0/24",), ("10.21.0.0/16", "fd21::/64"), ("10.20.9.0/24",)]
)
def test_nothing_is_left_out_where_nobody_has_it(ranges: tuple[str, ...]) -> None:
    assert left_out(view(2, 3), *ranges) == []


def test_a_lan_inside_the_network_keeps_its_addresses_and_no_more() -> None:
    assert left_out(view(2, 3, me="10.20.5.1"), "10.20.0.0/30") == [
        ("n2", "10.20.0.2"),
        ("n3", "10.20.0.3"),
    ]


@pytest.mark.parametrize("lan", ["10.20.0.0/16", "10.0.0.0/8"])
def test_a_lan_that_holds_the_network_keeps_all_of_its_family(lan: str) -> None:
    assert left_out(view(2), lan) == [("n1", "10.20.0.1"), ("n2", "10.20.0.2")]


def test_the_tunnel_has_nothing_of_what_is_left_out() -> None:
    found = view(2, me="10.20.5.1")
    made = compile_tunnel(found, OWN, {}, {"10.20.0.2"})
    assert made.addresses == ("10.20.5.1/16", "fd20::1/64")
    assert made.peers[key32(2)].allowed_ips == ("fd20::2/128",)
    made = compile_tunnel(found, OWN, {}, {"10.20.0.2", "fd20::2"})
    assert made.peers == {}


def test_ext_clients_are_left_out_as_nodes_are() -> None:
    clients = [made_client(1), made_client(2, address4="10.20.0.9"), made_client(3)]
    mesh = made_mesh(made_node(1, gateway=INGRESS), made_node(2), *clients)
    assert left_out(made_view(mesh), "10.20.0.201/32", "10.20.0.0/28") == [
        ("n1", "10.20.0.1"),
        ("c1", "10.20.0.201"),
        ("c2", "10.20.0.9"),
        ("n2", "10.20.0.2"),
    ]


claims = st.lists(
    st.builds(
        lambda host, length: str(ip_network(f"10.20.{host}/{length}", strict=False)),
        st.sampled_from(["0.1", "0.2", "0.77", "5.1", "255.0"]),
        st.integers(4, 32),
    ),
    max_size=4,
)


@given(claims)
def test_no_route_of_ours_takes_an_address_from_its_owner(ranges: list[str]) -> None:
    """The longest prefix wins: ours never has the same or a longer one than the owner's."""
    found = view(2, 3, 0x77, me="10.20.5.1")
    out = {address for _, address in left_out(found, *ranges)}
    made = compile_tunnel(found, OWN, {}, out)
    owned = [ip_network(r) for r in ranges]
    for text in made.addresses:
        address, _, length = text.partition("/")
        for other in owned:
            assert ip_address(address) not in other
            if other.version == ip_address(address).version and other.overlaps(
                ip_network(text, strict=False)
            ):
                assert other.prefixlen > int(length)
    for peer in made.peers.values():
        assert not any(
            ip_network(a).overlaps(o)
            for a in peer.allowed_ips
            for o in owned
            if ip_network(a).version == o.version
        )


def test_a_person_is_told_in_a_line_for_each_range() -> None:
    left = [LeftOut(f"n{n}", f"10.20.0.{n}", "10.20.0.0/24", "eth0") for n in range(1, 8)]
    left.append(LeftOut("n9", "fd20::9", "fd20::/64", "network office"))
    first, second = summarize(left)
    assert first.startswith("left out, as eth0 has 10.20.0.0/24: 10.20.0.1 (n1), 10.20.0.2 (n2), ")
    assert first.endswith(", 10.20.0.5 (n5) and 2 more")
    assert second == "left out, as network office has fd20::/64: fd20::9 (n9)"


RANGE = "192.168.7.0/24"


@given(st.integers(0, 32), st.integers(0, 32), st.integers(0, 2**32 - 1), st.integers(0, 2**32 - 1))
def test_a_range_is_held_where_all_its_addresses_are_in_the_subnet(
    outer: int, inner: int, at: int, other: int
) -> None:
    subnet = IPv4Network((at, outer), strict=False)
    near = (at if other % 2 else other) >> (32 - inner) << (32 - inner)
    cidr = IPv4Network((near, inner))
    is_held = cidr.subnet_of(subnet)
    assert holds(str(subnet), str(cidr)) == is_held
    found = find_declined([str(cidr)], [("n", [f"{ip_address(at)}/{outer}"])])
    assert found == ({str(cidr): [("n", str(subnet))]} if is_held else {})


def test_who_has_a_range_in_a_subnet_of_his_own_is_named_with_it() -> None:
    lans = {
        "a": ["192.168.7.9/24", "192.168.7.10/24"],
        "b": ["192.168.7.9/25", "fd00:7::1/64"],
        "c": ["192.168.1.1/16", "10.0.0.1/8"],
        "d": [],
    }
    assert find_declined([RANGE, "fd00:7::/64", "10.9.0.0/16"], lans.items()) == {
        RANGE: [("a", RANGE), ("c", "192.168.0.0/16")],
        "fd00:7::/64": [("b", "fd00:7::/64")],
        "10.9.0.0/16": [("c", "10.0.0.0/8")],
    }


def test_ranges_that_lie_in_another_network_of_the_machine_lead_nowhere() -> None:
    gateway = made_egress("10.99.0.0/24", "192.168.7.0/24", "192.168.0.0/16")
    mesh = Claim("10.99.0.0/16", "network lab")
    part = Claim("192.168.7.128/25", "network lab")  # that it leads to
    assert find_inside(gateway, [mesh, part], ()) == [
        ("10.99.0.0/24", mesh),
        ("192.168.0.0/16", part),
        ("192.168.7.0/24", part),
    ]
    in_a_lan = find_inside(gateway, [mesh, part], ("10.99.0.0/24", "192.168.7.0/24"))
    assert in_a_lan == [("192.168.0.0/16", part)]
    mapped = Gateway(egress=Egress(("10.9.7.0/24",), mapped={"10.9.7.0/24": "10.99.7.0/24"}))
    assert find_inside(mapped, [mesh], ()) == [("10.9.7.0/24", mesh)]
