"""What another program lays before or beside nmk's routes, and the command that removes it.

In a host of the lab, where `nmk-home` is one end of a cable, the kernel says what it takes.
"""

from __future__ import annotations

from typing import Any

import pytest

from tests.lab import Host, Lab
from tests.system.test_around import run_in

PROGRAM = """
import shlex
from nmk.core.links import LINKS
from nmk.system.culprit import who_leads

cable("nmk-home", "10.77.0.1/24", "fd77::1/64")
cable("eth0", "192.168.1.5/24", "fd00:1::5/64")
ip("route", "add", "default", "via", "192.168.1.1")
ip("-6", "route", "add", "default", "via", "fd00:1::9")
led = frozenset({"0.0.0.0/0", "::/0", "192.168.50.0/24"})
lay(1, RouteTable(led, rules(1, "lan", "ranges", "everything", "closed"), shut=True))
before = probe(1)
for line in LINES:
    ip(*line.split())
leaves = routes.leaves_by(run, ADDRESS)
culprit = who_leads(run, ADDRESS, 1, "nmk-home")
if culprit:
    ip(*shlex.split(culprit.remove)[1:])
show(
    leaves=leaves,
    what=culprit and culprit.what,
    after=routes.leaves_by(run, ADDRESS),
    is_kept=probe(1) == before,
)
"""
OURS = "table 7236973"
HOP = "nexthop via 192.168.1.{} dev eth0"
HALF = "192.168.50.128/25 dev eth0"
CASES = {
    "lower metric": (
        [f"-6 route add default via fd00:1::9 dev eth0 metric 10 {OURS}"],
        ("2600::1", "eth0", f"route default via fd00:1::9 dev eth0 metric 10 {OURS}"),
    ),
    "prepended": (
        [f"route prepend default via 192.168.1.1 dev eth0 {OURS}"],
        ("1.0.0.1", "eth0", f"route default via 192.168.1.1 dev eth0 {OURS}"),
    ),
    "more specific": (
        [f"route add {HALF} {OURS}"],
        ("192.168.50.200", "eth0", f"route {HALF} {OURS}"),
    ),
    "by two routers": (
        [f"route add 8.0.0.0/8 {OURS} {HOP.format(1)} {HOP.format(2)}"],
        ("8.1.1.1", "eth0", f"route 8.0.0.0/8 {OURS}"),
    ),
    "lost": (
        [f"route add blackhole 9.0.0.0/8 {OURS}"],
        ("9.1.1.1", None, f"route blackhole 9.0.0.0/8 {OURS}"),
    ),
    "thrown back": (
        [f"-6 route add throw 2600::/16 {OURS}"],
        # Of both families alike: a throw of ours leads on to what closes the way.
        ("2600::1", None, f"route throw 2600::/16 dev lo metric 1024 {OURS}"),
    ),
    "in the main table": (
        ["route add 10.77.0.128/25 dev eth0"],
        ("10.77.0.200", "eth0", "route 10.77.0.128/25 dev eth0"),
    ),
    "a rule of another VPN": (
        [
            "route add default dev eth0 table 52",
            "rule add priority 50 from 192.168.1.99 table 52",
            "rule add priority 100 table 52",
        ],
        ("10.77.0.2", "eth0", "rule priority 100 table 52"),
    ),
    "a rule for a part": (
        ["-6 route add default dev eth0 table 52", "-6 rule add priority 90 to fd77::/96 table 52"],
        ("fd77::2", "eth0", "rule priority 90 to fd77::/96 table 52"),
    ),
    "a rule past ours": (
        ["rule add priority 70 to 1.0.0.0/24 goto 32766"],
        ("1.0.0.1", "eth0", "rule priority 70 to 1.0.0.0/24 goto 32766"),
    ),
    "a rule that leads nowhere": (
        ["rule add priority 80 to 10.77.0.2 prohibit"],
        ("10.77.0.2", None, "rule priority 80 to 10.77.0.2/32 prohibit"),
    ),
    "nowhere in the main table": (
        ["route add unreachable 10.77.0.2"],
        ("10.77.0.2", None, "route unreachable 10.77.0.2"),
    ),
    "dropped in the main table": (
        ["-6 route add blackhole fd77::2"],
        ("fd77::2", None, "route blackhole fd77::2 dev lo metric 1024"),
    ),
    "by a nexthop object": (
        ["nexthop add id 7 via 192.168.1.1 dev eth0", "route add 10.77.0.2 nhid 7"],
        ("10.77.0.2", "eth0", "route 10.77.0.2 nhid 7"),
    ),
    "by a nexthop object that drops": (
        ["nexthop add id 8 blackhole", "route add 10.77.0.2 nhid 8"],
        ("10.77.0.2", None, "route 10.77.0.2 nhid 8"),
    ),
    "by a router of the other family": (
        ["route add 10.77.0.2 via inet6 fe80::1 dev eth0"],
        ("10.77.0.2", "eth0", "route 10.77.0.2 via inet6 fe80::1 dev eth0"),
    ),
    "in another packet": (
        ["route add 10.77.0.2 encap ip id 5 dst 203.0.113.9 tos 4 via 192.168.1.1 dev eth0"],
        ("10.77.0.2", "eth0", "route 10.77.0.2 via 192.168.1.1 dev eth0"),
    ),
    "in another packet of IPv6": (
        [f"-6 route add 2600::/16 encap ip6 id 5 dst 2001:db8::9 via fd00:1::9 dev eth0 {OURS}"],
        ("2600::1", "eth0", f"route 2600::/16 via fd00:1::9 dev eth0 metric 1024 {OURS}"),
    ),
    "a name that a shell acts on": (
        [
            "link add name x;id>hacked type veth peer name y",
            "link set x;id>hacked up",
            "link set y up",
            "route add 10.77.0.2 dev x;id>hacked",
        ],
        ("10.77.0.2", "x;id>hacked", "route 10.77.0.2 dev 'x;id>hacked'"),
    ),
}


@pytest.fixture
def host(lab: Lab) -> Host:
    return lab.host("a")


def in_case(host: Host, lines: list[str], address: str) -> dict[str, Any]:
    return run_in(host, f"LINES, ADDRESS = {lines!r}, {address!r}\n{PROGRAM}")


@pytest.mark.parametrize(("lines", "found"), CASES.values(), ids=CASES)
def test_what_leads_elsewhere_is_named_with_what_removes_it(
    host: Host, lines: list[str], found: tuple[str, str | None, str]
) -> None:
    address, leaves, what = found
    assert in_case(host, lines, address) == {
        "leaves": leaves,
        "what": what,
        "after": "nmk-home",
        "is_kept": True,
    }


@pytest.mark.parametrize(
    ("lines", "address"),
    [
        (["route flush table 7236973", "rule del priority 31001"], "1.0.0.1"),
        (["address add 10.77.0.130/25 dev eth0"], "10.77.0.200"),
    ],
)
def test_what_the_machine_has_from_its_link_or_its_router_is_not_to_be_removed(
    host: Host, lines: list[str], address: str
) -> None:
    found = in_case(host, lines, address)
    assert (found["leaves"], found["what"]) == ("eth0", None)


def test_a_default_route_of_the_main_table_into_the_tunnel_is_named(host: Host) -> None:
    shown = run_in(
        host,
        """
        from nmk.system.culprit import defaults_into
        cable("nmk-home", "10.77.0.1/24", "fd77::1/64")
        cable("eth0", "192.168.1.5/24")
        ip("route", "add", "default", "via", "192.168.1.1")
        before = defaults_into(run, "nmk-home")
        ip("route", "add", "default", "via", "203.0.113.1", "dev", "nmk-home", "onlink",
           "metric", "9")
        ip("-6", "route", "add", "default", "via", "fd77::9", "dev", "nmk-home")
        found = defaults_into(run, "nmk-home")
        for one in found:
            ip(*one.remove.split()[1:])
        show(before=before, found=[one.what for one in found], after=defaults_into(run, "nmk-home"))
        """,
    )
    assert (shown["before"], shown["after"]) == ([], [])
    four, six = shown["found"]
    assert four == "route default via 203.0.113.1 dev nmk-home metric 9"
    assert six.startswith("route default via fd77::9 dev nmk-home")


PICKY = (
    "from 192.168.1.7/32",
    "from 192.168.1.0/24 fwmark 0x5",
    "fwmark 0x80000/0xff0000",
    "uidrange 7-9",
    "not from 10.0.0.0/8",
    "iif eth0 ipproto udp dport 53",
    "ipproto tcp sport 100-200 to 8.0.0.0/8",
)


def test_rules_for_some_packets_are_named_with_what_removes_each(host: Host) -> None:
    shown = run_in(
        host,
        f"""
        from nmk.system.culprit import picky_past
        cable("eth0", "192.168.1.5/24")
        ip("route", "add", "default", "via", "192.168.1.1", "table", "77")
        ip("rule", "add", "priority", "99", "to", "9.0.0.0/8", "fwmark", "7", "table", "78")
        for number, words in enumerate({PICKY!r}):
            ip("rule", "add", "priority", str(100 + number), *words.split(), "table", "77")
        found = picky_past(run, 1, ("nmk-home",))
        for one, _ in found:
            ip(*one.remove.split()[1:])
        show(
            found=[(one.what, by) for one, by in found],
            inside=picky_past(run, 1, ("eth0",)),
            after=[rule["priority"] for rule in routes.read_rules(run, 4)],
        )
        """,
    )
    wanted = [f"rule priority {100 + n} {words} table 77" for n, words in enumerate(PICKY)]
    assert shown["found"] == [[rule, "eth0"] for rule in wanted]
    assert (shown["inside"], shown["after"]) == ([], [0, 99, 32766, 32767])
