"""Which ranges a machine lets a controller give to a network."""

from __future__ import annotations

import pytest

from nmk.core.claims import Claim
from nmk.core.fitness import find_objections

MESHES = [Claim("10.9.0.0/16", "network office"), Claim("fd09::/64", "network office")]
LANS = [Claim("192.168.1.0/24", "eth0"), Claim("10.0.0.0/10", "eth1"), Claim("2a00:1::/64", "eth0")]
IN_USE = [("10.200.0.1", "the controller at http://10.200.0.1:50051"), ("fd77::9", "an endpoint")]


def objections(*cidrs: str) -> dict[str, str]:
    return find_objections(cidrs, MESHES, LANS, IN_USE)


@pytest.mark.parametrize(
    "cidr",
    [
        *("10.88.0.0/16", "172.16.0.0/12", "192.168.2.0/24", "192.168.1.128/25", "10.1.0.0/16"),
        *("100.64.0.0/10", "100.100.0.0/16", "198.18.0.0/15", "fd12::/64", "fc00:1::/48"),
    ],
)
def test_a_range_that_is_nobodys_else_is_taken(cidr: str) -> None:
    """One inside a subnet of the machine takes nothing: the addresses in it are left out."""
    assert objections(cidr) == {}


@pytest.mark.parametrize(
    ("cidr", "reason"),
    [
        ("203.0.0.0/8", "public"),
        ("203.0.113.0/24", "public"),
        ("100.0.0.0/8", "public"),
        ("172.0.0.0/8", "public"),
        ("198.51.100.0/24", "public"),
        ("2001:db8::/32", "public"),
        ("fec0::/32", "public"),
        ("192.168.1.0/24", "it holds 192.168.1.0/24 of eth0"),
        ("192.168.0.0/16", "it holds 192.168.1.0/24 of eth0"),
        ("2a00:1::/32", "it holds 2a00:1::/64 of eth0"),
        ("10.9.0.0/16", "network office has 10.9.0.0/16"),
        ("10.9.8.0/24", "network office has 10.9.0.0/16"),
        ("10.8.0.0/15", "network office has 10.9.0.0/16"),
        ("fd09::/32", "network office has fd09::/64"),
        ("10.200.0.0/16", "it holds 10.200.0.1, the controller at http://10.200.0.1:50051"),
        ("fd77::/64", "it holds fd77::9, an endpoint"),
    ],
)
def test_a_range_that_others_need_is_not(cidr: str, reason: str) -> None:
    assert reason in objections("10.88.0.0/16", cidr)[cidr]
    assert list(objections("10.88.0.0/16", cidr)) == [cidr]
