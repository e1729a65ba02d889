"""Roles as texts and as JSON: what makes no sense is refused, and what is written is read."""

from __future__ import annotations

import contextlib
import json
from ipaddress import ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nmk.core.gateways import (
    MOST_RANGES,
    NATS,
    NO_GATEWAY,
    ROLES,
    Egress,
    Exit,
    Gateway,
    Ingress,
    gateway_json,
    is_translated,
    make_egress,
    make_exit,
    make_ingress,
    parse_egress_range,
    parse_gateway,
    parse_host_endpoint,
    parse_nat,
    parse_role,
)
from nmk.core.parse import parse_port
from nmk.errors import BadInput

LONG = ".".join(["x" * 63] * 3 + ["x" * 61])  # 253 characters

egress_ranges = st.one_of(
    st.builds(
        lambda base, length: ip_network((base, length), strict=False),
        st.integers(0, 2**32 - 1),
        st.integers(8, 32),
    ),
    st.builds(
        lambda base, length: ip_network((base, length), strict=False),
        st.integers(0, 2**128 - 1),
        st.integers(16, 128),
    ),
).map(str)
interfaces = st.sampled_from([None, "eth0", "wlan-1", "br+x", "a" * 15])
nats = st.sampled_from(NATS)
endpoints = st.sampled_from(
    [None, "192.0.2.1:51821", "[2001:db8::1]:1", "vpn.example.org:65535", "gw:80"]
)


def usable(text: str) -> bool:
    with contextlib.suppress(BadInput):
        return bool(parse_egress_range(text))
    return False


gateways = st.builds(
    Gateway,
    ingress=st.none() | st.builds(make_ingress, endpoints),
    egress=st.none()
    | st.builds(
        make_egress,
        st.lists(egress_ranges.filter(usable), min_size=1, max_size=5),
        nats,
        interfaces,
        st.integers(1, 65535),
    ),
    exit=st.none() | st.builds(make_exit, nats, interfaces),
)


@pytest.mark.parametrize(
    "text",
    ["192.168.7.0/24", "10.0.0.0/8", "192.0.2.1/32", "8.8.8.0/24", "fd00:7::/48", "2001:db8::/32"],
)
def test_a_range_that_can_be_routed(text: str) -> None:
    assert str(parse_egress_range(text)) == text


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("192.168.7.0", "192.168.7.0/32"),
        ("192.168.7.1/24", "192.168.7.0/24"),
        ("192.168.7.0/33", "write it like"),
        ("192.168.7.0/-1", "write it like"),
        ("192.168.7/24", "write it like"),
        ("192.168.7.0/24\n", "write it like"),
        (" 192.168.7.0/24", "write it like"),
        ("", "write it like"),
        ("lan", "write it like"),
        ("fd00:7::1/48", "fd00:7::/48"),
        ("fe80::%eth0/64", "write the plain"),
        ("::ffff:192.168.7.0/120", "as an IPv4 range"),
        ("::ffff:0:0/96", "as an IPv4 range"),
        ("0.0.0.0/0", "nmk gateway add NODE exit"),
        ("::/0", "nmk gateway add NODE exit"),
        ("0.0.0.0/1", "from /8 on"),
        ("128.0.0.0/1", "from /8 on"),
        ("8.0.0.0/7", "from /8 on"),
        ("2000::/3", "from /16 on"),
        ("8000::/15", "from /16 on"),
        ("0.0.0.0/8", "of a LAN"),
        ("224.0.0.0/8", "of a LAN"),
        ("239.1.2.0/24", "of a LAN"),
        ("240.0.0.0/8", "of a LAN"),
        ("255.255.255.255/32", "of a LAN"),
        ("127.0.0.0/8", "of a LAN"),
        ("127.1.0.0/16", "of a LAN"),
        ("169.254.0.0/16", "of a LAN"),
        ("::1/128", "of a LAN"),
        ("fe80::/64", "of a LAN"),
        ("ff02::/16", "of a LAN"),
    ],
)
def test_a_range_that_cannot_be_routed_is_quoted_with_what_to_do(text: str, hint: str) -> None:
    with pytest.raises(BadInput) as refusal:
        parse_egress_range(text)
    assert repr(text) in refusal.value.message
    assert hint in (refusal.value.hint or "")


@given(egress_ranges)
def test_what_is_routed_is_never_everything_or_nobodys(text: str) -> None:
    with contextlib.suppress(BadInput):
        cidr = parse_egress_range(text)
        assert str(cidr) == text
        for nobodys in ("127.0.0.0/8", "224.0.0.0/4", "240.0.0.0/4", "::1/128", "ff00::/8"):
            other = ip_network(nobodys)
            assert cidr.version != other.version or not cidr.overlaps(other)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("192.0.2.1:51821", "192.0.2.1:51821"),
        ("[2001:DB8::1]:1", "[2001:db8::1]:1"),
        ("vpn.example.org:51821", "vpn.example.org:51821"),
        ("VPN.Example.ORG:0051", "vpn.example.org:51"),
        ("localhost:1", "localhost:1"),
        ("_wg._udp.example.org:1", "_wg._udp.example.org:1"),
        ("1.2.3.4.sslip.io:1", "1.2.3.4.sslip.io:1"),
        ("xn--bcher-kva.example:1", "xn--bcher-kva.example:1"),
        (f"{LONG}:1", f"{LONG}:1"),
    ],
)
def test_where_ext_clients_may_call(text: str, found: str) -> None:
    assert parse_host_endpoint(text) == found
    assert make_ingress(text) == Ingress(found)


@pytest.mark.parametrize(
    "text",
    [
        "",
        ":",
        ":51821",
        "vpn.example.org",
        "vpn.example.org:",
        "vpn.example.org:0",
        "vpn.example.org:65536",
        "vpn.example.org:x",
        "vpn.example.org:1\n",
        "vpn.example.org\n:1",
        "vpn.example.org:1\nPostUp = reboot",
        "vpn\nPostUp = reboot #.org:1",
        "vpn example.org:1",
        "vpn.example.org:1:2",
        "-vpn.example.org:1",
        "vpn-.example.org:1",
        "vpn..example.org:1",
        ".example.org:1",
        "vpn.example.org.:1",
        "vpn.example.1:1",
        "bücher.example:1",
        "vpn.example.org\x00:1",
        "vpn.example.org:\u0661",
        "\u212aelvin.example.org:1",
        "vpn.example.o\u017fl:1",
        f"{'x' * 64}.org:1",
        f"vpn.{'x' * 64}:1",
        f"x{LONG}:1",
        "http://vpn.example.org:1",
        "user@vpn.example.org:1",
        "$(reboot).example.org:1",
        "192.0.2.1.:1",
        "192.0.2.300:1",
        "192.0.2:1",
        "2001:db8::1:1",
        "[2001:db8::1%eth0]:1",
        "[2001:db8::1%\nPostUp = x]:1",
        "[::ffff:192.0.2.1]:1",
        "0.0.0.0:1",
        "[::]:1",
        "224.0.0.1:1",
        "[vpn.example.org]:1",
    ],
)
def test_where_nobody_can_call(text: str) -> None:
    with pytest.raises(BadInput):
        parse_host_endpoint(text)


@given(st.text(alphabet="aZ9-_.:[]% \n\\/@", max_size=20), st.text(max_size=8))
def test_an_endpoint_is_one_word_of_plain_letters(host: str, port: str) -> None:
    for text in (f"{host}:{port}", f"{host}:1", f"a{host}z:1"):
        with contextlib.suppress(BadInput):
            found = parse_host_endpoint(text)
            assert found.isascii()
            assert found.isprintable()
            assert not set(found) & set(' %\\/@"')
            assert parse_host_endpoint(found) == found
            assert parse_port(found.rpartition(":")[2])


@given(gateways)
def test_roles_are_read_as_they_were_written(gateway: Gateway) -> None:
    written = json.loads(json.dumps(gateway_json(gateway)))
    assert parse_gateway(written) == gateway
    assert tuple(written) == gateway.roles
    assert (gateway == NO_GATEWAY) == (written == {})


def test_a_gateway_names_its_roles_in_one_order() -> None:
    both = Gateway(exit=Exit(), ingress=Ingress())
    assert both.roles == ("ingress", "exit")
    assert both.ranges == ()
    assert Gateway(egress=Egress(("10.1.0.0/16",))).ranges == ("10.1.0.0/16",)
    assert NO_GATEWAY.roles == ()


@pytest.mark.parametrize(
    "data",
    [
        None,
        [],
        5,
        {"ingress": 5},
        {"ingress": {"endpoint": 5}},
        {"ingress": {"endpoint": "vpn"}},
        {"ingress": {"nat": "on"}},
        {"exit": {"nat": "auto"}},
        {"exit": {"nat": "maybe", "interface": None}},
        {"exit": {"nat": None, "interface": None}},
        {"exit": {"nat": "on", "interface": 'eth0" accept #'}},
        {"exit": {"nat": "on", "interface": "eth0\n"}},
        {"exit": {"nat": "on", "interface": "x" * 16}},
        {"exit": {"nat": "on", "interface": 5}},
        {"egress": {"ranges": [], "nat": "on", "interface": None, "metric": 1}},
        {"egress": {"ranges": None, "nat": "on", "interface": None, "metric": 1}},
        {"egress": {"ranges": "10.1.0.0/16", "nat": "on", "interface": None, "metric": 1}},
        {"egress": {"ranges": ["0.0.0.0/0"], "nat": "on", "interface": None, "metric": 1}},
        {"egress": {"ranges": [5], "nat": "on", "interface": None, "metric": 1}},
        {"egress": {"ranges": ["10.1.0.0/16"], "nat": "on", "interface": None, "metric": 0}},
        {"egress": {"ranges": ["10.1.0.0/16"], "nat": "on", "interface": None, "metric": 65536}},
        {"egress": {"ranges": ["10.1.0.0/16"], "nat": "on", "interface": None, "metric": True}},
        {"egress": {"ranges": ["10.1.0.0/16"], "nat": "on", "interface": None}},
    ],
)
def test_what_is_no_gateway_is_refused(data: object) -> None:
    with pytest.raises((BadInput, KeyError, TypeError, AttributeError)):
        parse_gateway(data)  # type: ignore[arg-type]  # that is the point


def test_ranges_are_told_apart_and_sorted() -> None:
    made = make_egress(
        ["fd00:7::/48", "192.168.7.0/24", "10.1.0.0/16", "192.168.7.0/24"], "off", "eth1", "7"
    )
    assert made == Egress(("10.1.0.0/16", "192.168.7.0/24", "fd00:7::/48"), "off", "eth1", 7)


def test_an_egress_gateway_has_a_range_and_not_too_many() -> None:
    with pytest.raises(BadInput, match="needs a range"):
        make_egress([], "auto", None, 1)
    many = [f"10.{n}.0.0/16" for n in range(MOST_RANGES + 1)]
    assert len(make_egress([*many[1:], *many[1:]], "auto", None, 1).ranges) == MOST_RANGES
    with pytest.raises(BadInput, match=str(MOST_RANGES + 1)):
        make_egress(many, "auto", None, 1)


@pytest.mark.parametrize("text", ["", "Ingress", "relay", "exit\n", "ingress,exit"])
def test_a_role_that_there_is_not_is_answered_with_those_there_are(text: str) -> None:
    assert [parse_role(role) for role in ROLES] == list(ROLES)
    with pytest.raises(BadInput) as refusal:
        parse_role(text)
    assert "ingress, egress, exit" in (refusal.value.hint or "")


@pytest.mark.parametrize("text", ["", "ON", "yes", "auto "])
def test_a_nat_that_there_is_not_is_answered_with_those_there_are(text: str) -> None:
    assert [parse_nat(nat) for nat in NATS] == list(NATS)
    with pytest.raises(BadInput) as refusal:
        parse_nat(text)
    assert "auto, on, off" in (refusal.value.hint or "")


@pytest.mark.parametrize(
    ("source", "translated"),
    [
        ("10.20.0.0/16", True),
        ("192.168.7.0/24", True),
        ("100.64.0.0/10", True),
        ("fd20::/64", True),
        ("192.0.2.0/24", True),  # TEST-NET: no router knows the way back
        ("8.8.8.0/24", False),
        ("2600:1f00::/24", False),
    ],
)
def test_what_finds_its_own_way_back_is_not_translated(source: str, translated: bool) -> None:
    assert is_translated("auto", source) is translated
    assert is_translated("on", source) is True
    assert is_translated("off", source) is False
