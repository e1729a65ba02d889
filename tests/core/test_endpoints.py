from __future__ import annotations

from ipaddress import ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nmk.core.endpoints import choose_endpoint, is_place
from nmk.core.parse import Address, parse_endpoint

OURS = ["192.168.1.2/24"]
PUBLIC = ["203.0.113.1"]


def choose(
    my_lan: list[str], my_observed: list[str], lan: list[str], observed: list[str], static: str = ""
) -> tuple[str, str] | None:
    return choose_endpoint(my_lan, my_observed, static or None, lan, observed, 51821)


@pytest.mark.parametrize(
    ("case", "mine", "theirs", "chosen"),
    [
        (
            "behind one router: the way that stays inside",
            (OURS, PUBLIC),
            (["192.168.1.7/24"], PUBLIC),
            ("lan", "192.168.1.7:51821"),
        ),
        (
            "inside beats what was pinned for outside",
            (OURS, PUBLIC),
            (["192.168.1.7/24"], PUBLIC, "198.51.100.7:1"),
            ("lan", "192.168.1.7:51821"),
        ),
        (
            "seen by its own address: there is no NAT between the controller and it",
            (OURS, []),
            (["192.168.1.7/24"], ["192.168.1.7"]),
            ("lan", "192.168.1.7:51821"),
        ),
        (
            "the same subnet behind two routers is two subnets",
            (OURS, PUBLIC),
            (["192.168.1.7/24"], ["198.51.100.9"]),
            ("observed", "198.51.100.9:51821"),
        ),
        (
            "pinned",
            (OURS, PUBLIC),
            (["10.0.0.7/24"], ["198.51.100.9"], "198.51.100.7:1"),
            ("static", "198.51.100.7:1"),
        ),
        (
            "a global address of its own before the one that was seen",
            (OURS, PUBLIC),
            (["8.8.8.8/24"], ["9.9.9.9"]),
            ("lan", "8.8.8.8:51821"),
        ),
        (
            "IPv6 is for who has IPv6",
            ([*OURS, "2001:4860::1/64"], []),
            (["2001:4860:1::7/64"], []),
            ("lan", "[2001:4860:1::7]:51821"),
        ),
        (
            "no IPv6 here: the IPv4 address that was seen",
            (OURS, []),
            (["2001:4860:1::7/64"], ["198.51.100.9"]),
            ("observed", "198.51.100.9:51821"),
        ),
        ("nothing is known of it", (OURS, PUBLIC), ([], []), None),
        ("only IPv6, of which we have none", (OURS, PUBLIC), (["2001:4860::7/64"], []), None),
        (
            "its address is our own: every virtual machine behind its own NAT has 10.0.2.15",
            (["10.0.2.15/24"], PUBLIC),
            (["10.0.2.15/24"], PUBLIC),
            ("observed", "203.0.113.1:51821"),
        ),
        (
            "of its addresses, the one that is not ours too",
            (["10.0.2.15/24", "192.168.1.2/24"], PUBLIC),
            (["10.0.2.15/24", "192.168.1.7/24"], PUBLIC),
            ("lan", "192.168.1.7:51821"),
        ),
        (
            "the controller is on its own host, which nothing sees from outside",
            (OURS, []),
            (["192.168.1.7/24"], ["127.0.0.1"]),
            ("lan", "192.168.1.7:51821"),
        ),
    ],
)
def test_the_endpoint_for_a_peer(
    case: str,
    mine: tuple[list[str], list[str]],
    theirs: tuple[list[str], list[str]] | tuple[list[str], list[str], str],
    chosen: tuple[str, str] | None,
) -> None:
    assert choose(*mine, *theirs) == chosen, case


SAID = st.lists(
    st.builds("{}/{}".format, st.ip_addresses(), st.integers(0, 32))
    | st.sampled_from(["224.0.0.5/24", "0.0.0.0/0", "::ffff:10.0.0.1/32", "fe80::1/10", "::1/0"]),
    max_size=4,
)


@given(SAID, SAID, SAID, SAID, st.sampled_from(["", "198.51.100.7:1"]))
def test_what_is_chosen_is_an_endpoint(
    mine: list[str], my_seen: list[str], lan: list[str], seen: list[str], static: str
) -> None:
    """Whatever a machine says of itself: it is written where it has to be read again."""
    hosts, my_hosts = ([text.partition("/")[0] for text in texts] for texts in (seen, my_seen))
    chosen = choose(mine, my_hosts, lan, hosts, static)
    assert chosen is None or parse_endpoint(chosen[1]) == chosen[1]


@pytest.mark.parametrize(
    ("first", "last"),
    [
        ("0.0.0.0", "0.255.255.255"),
        ("127.0.0.0", "127.255.255.255"),
        ("169.254.0.0", "169.254.255.255"),
        ("224.0.0.0", "239.255.255.255"),
        ("255.255.255.255", "255.255.255.255"),
        ("::", "::ffff:ffff"),
        ("::ffff:0:0", "::ffff:ffff:ffff"),
        ("fe80::", "febf:ffff:ffff:ffff:ffff:ffff:ffff:ffff"),
        ("ff00::", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"),
    ],
)
def test_what_is_no_place(first: str, last: str) -> None:
    low, high = ip_address(first), ip_address(last)
    assert not is_place(low)
    assert not is_place(high)
    beside = [low - 1] if int(low) else []
    beside += [high + 1] if int(high) != 2**high.max_prefixlen - 1 else []
    assert all(is_place(address) for address in beside)


@given(st.ip_addresses())
def test_a_place_is_unicast_and_of_more_than_one_link(address: Address) -> None:
    odd = address.is_unspecified or address.is_multicast or address.is_loopback
    assert not (is_place(address) and (odd or address.is_link_local))
    assert is_place(address) or odd or not address.is_global or address.is_reserved
