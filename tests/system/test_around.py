"""What lies beside an interface, for real: routes, rules, kernel settings and packet filters.

Programs that drive nmk.system run in a host of the lab, where `nmk-home` is one end of a cable.
"""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest

from nmk.errors import ToolMissing
from nmk.system import filter as packet_filter
from nmk.system.runner import Runner
from tests.core.test_docker import DOCKER, DOCKER_28
from tests.lab import Host, Lab

SOURCE = str(Path(__file__).parents[2])
PRELUDE = """
import json, subprocess
from nmk.core.route_table import (
    NO_TABLE, RouteTable, describe_table, plan_table, rules_of, shut_table_of, table_of
)
from nmk.core.tunnel import MARK
from nmk.errors import NmkError
from nmk.system import filter as packet_filter
from nmk.system import routes, sysctl
from nmk.system.runner import DryRunner, Runner

shown = []
run = Runner(shown.append)

def ip(*words):
    return subprocess.run(["ip", *words], check=True, capture_output=True, text=True).stdout

def cable(name, *addresses):
    ip("link", "add", name, "type", "veth", "peer", f"{name}-far")
    ip("link", "set", f"{name}-far", "up")
    ip("link", "set", name, "up")
    for address in addresses:
        ip("address", "add", address, "dev", name, *(["nodad"] if ":" in address else []))

def probe(order):
    return routes.probe_table(run, order, "nmk-home")

def lay(order, want):
    commands = plan_table(order, "nmk-home", want, probe(order))
    for command in commands:
        run.change(command)
    return len(commands)

def rules(order, *kinds, families=(4, 6)):
    found = rules_of(order)
    texts = [getattr(found, kind) for kind in kinds if kind != "closed"]
    return frozenset((family, text) for family in families for text in texts) | (
        frozenset(r for r in found.closed if r[0] in families) if "closed" in kinds
        else frozenset() if kinds else found.all
    )

def show(**values):
    print(json.dumps(values))
"""


@pytest.fixture
def host(lab: Lab) -> Host:
    return lab.host("a")


def run_in(host: Host, program: str) -> dict[str, Any]:
    """What the program, run in the host, shows."""
    code = PRELUDE + dedent(program)
    done = host.run(sys.executable, "-c", code, env={"PYTHONPATH": SOURCE})
    shown: dict[str, Any] = json.loads(done.stdout)
    return shown


# --- routes and rules


def test_a_table_is_found_as_it_was_laid_from_whatever_there_was(host: Host) -> None:
    shown = run_in(
        host,
        """
        import random
        cable("nmk-home", "10.20.0.1/24", "fd20::1/64")
        ip("rule", "add", "priority", "21000", "fwmark", "0x7", "table", "777")
        ip("route", "add", "10.9.0.0/16", "dev", "nmk-home", "table", "777")
        cidrs = ["0.0.0.0/0", "::/0", "10.9.0.0/16", "10.9.7.7/32", "fd00:7::/48", "fd00:8::1/128"]
        def others():
            return [ip("-4", "rule"), ip("-6", "rule"), ip("route", "show", "table", "777"),
                    ip("route"), ip("-6", "route")]
        before, wrong, steps = others(), [], 0
        dice = random.Random(7)
        for _ in range(25):
            led = frozenset(c for c in cidrs if dice.random() < 0.5)
            few = frozenset(r for r in rules(3) if dice.random() < 0.7)
            want = RouteTable(led, few, dice.random() < 0.5)
            steps += lay(3, want)
            live = probe(3)
            if live != want or lay(3, want) or describe_table(3, want, live):
                wrong.append([str(want), str(live)])
        lay(3, NO_TABLE)
        show(wrong=wrong, steps=steps, left=before != others(), gone=probe(3) == NO_TABLE)
        """,
    )
    assert shown["wrong"] == []
    assert shown["steps"] > 30
    assert shown["gone"]
    assert not shown["left"]


def test_a_router_is_found_whatever_its_address_is(host: Host) -> None:
    """With an exit node, and while its interface is gone; routes of nmk 0.2.0 are laid anew."""
    shown = run_in(
        host,
        """
        cable("eth0", "203.0.113.5/24")
        cable("nmk-home", "10.20.0.1/24")
        led = frozenset({"0.0.0.0/0", "203.0.112.0/20"})
        four = rules(1, "ranges", "everything", "closed", families=[4])
        old = [r for r in rules_of(1).former if r[0] == 4]
        for cidr in led:
            ip("route", "add", cidr, "dev", "nmk-home", "table", str(table_of(1)))
        for _, rule in (*(r for r in four if r not in rules_of(1).closed), *old):
            ip("rule", "add", *rule.split())
        found = []
        def attempts():
            for device in (["dev", "eth0"], []):
                words = ["route", "add", "default", "via", "203.0.113.1", *device]
                done = subprocess.run(["ip", *words], capture_output=True, text=True)
                found.append(done.stderr.strip() or ip("route", "show", "default").split()[4])
                subprocess.run(["ip", "route", "del", "default"], capture_output=True)
            found.append(routes.leaves_by(run, "198.51.100.7"))
            found.append(routes.leaves_by(run, "203.0.113.9"))
        attempts()
        was = probe(1).is_wide
        want = RouteTable(led, four, shut=True)
        lay(1, want)
        is_same = probe(1) == want
        attempts()
        ip("link", "del", "nmk-home")
        attempts()
        left = ip("route", "show", "table", str(shut_table_of(1)))
        lay(1, NO_TABLE)
        show(found=found, was=was, is_same=is_same, left=left, none=probe(1) == NO_TABLE)
        """,
    )
    assert not shown["was"]
    assert shown["is_same"]
    before, laid, gone = (shown["found"][n : n + 4] for n in (0, 4, 8))
    assert before[0].endswith("Nexthop has invalid gateway.") or before[1] == "nmk-home"
    assert laid == ["eth0", "eth0", "nmk-home", "nmk-home"]
    assert gone == ["eth0", "eth0", None, None]
    assert shown["left"].startswith("unreachable default")
    assert shown["none"]


@pytest.mark.parametrize("first", ["theirs", "ours"])
def test_rules_of_an_earlier_version_go(host: Host, first: str) -> None:
    """Those of 0.2.0 differ from ours in a suppression that `ip rule del` cannot leave out."""
    shown = run_in(
        host,
        f"""
        cable("nmk-home", "10.20.0.1/24")
        theirs = {{(f, r.removesuffix(" suppress_prefixlength 0")) for f, r in rules(1, "ranges")}}
        want = RouteTable(frozenset({{"10.30.0.0/16"}}), rules(1, "ranges", "lan"))
        def before():
            for family, rule in theirs:
                ip(f"-{{family}}", "rule", "add", *rule.split())
        ({first!r} == "theirs" and before(), lay(1, want), {first!r} == "ours" and before())
        def left():
            found = [(f, routes.render_rule(r)) for f in (4, 6) for r in routes.read_rules(run, f)]
            return [rule for rule in found if rule in theirs]
        was = len(left())
        lay(1, want)
        show(was=was, left=left(), same=probe(1) == want)
        """,
    )
    assert shown["was"] == (0 if first == "theirs" else 2)
    assert shown["left"] == []
    assert shown["same"]


def test_each_network_sees_its_own_table_and_rules(host: Host) -> None:
    shown = run_in(
        host,
        """
        cable("nmk-home", "10.20.0.1/24")
        want = {
            order: RouteTable(frozenset({f"10.{order}.0.0/16"}), rules(order, "lan", "ranges"))
            for order in (0, 1, 12)
        }
        for order, table in want.items():
            lay(order, table)
        show(same=[probe(o) == t for o, t in want.items()], none=probe(2) == NO_TABLE,
             rules=ip("rule"))
        """,
    )
    assert shown["same"] == [True] * 3
    assert shown["none"]
    assert "not from all fwmark 0x6e6d6b lookup" in shown["rules"]


def test_packets_go_where_the_table_leads_and_marked_ones_and_the_lan_do_not(host: Host) -> None:
    shown = run_in(
        host,
        """
        cable("eth9", "192.0.2.2/24")
        cable("nmk-home", "10.20.0.1/24")
        ip("route", "add", "default", "via", "192.0.2.1")
        ip("-6", "route", "add", "default", "dev", "eth9")
        def ways(mark=0):
            found = [routes.way_to(run, a, mark) for a in
                     ("198.51.100.7", "192.0.2.7", "10.20.0.7", "10.9.1.1", "2001:db8::7")]
            return [way and way.interface for way in found]
        seen = [ways()]
        usual = rules(0, "lan", "ranges")
        lay(0, RouteTable(frozenset({"10.9.0.0/16", "192.0.2.0/24"}), usual))
        seen.append(ways())
        four, six = rules(0, "everything", families=[4]), rules(0, "closed", families=[6])
        lay(0, RouteTable(frozenset({"0.0.0.0/0", "10.9.0.0/16"}), usual | four | six))
        seen += [ways(), ways(MARK)]
        lay(0, NO_TABLE)
        show(seen=[*seen, ways()])
        """,
    )
    before, ranges, everything, marked, after = shown["seen"]
    assert before == marked == after == ["eth9", "eth9", "nmk-home", "eth9", "eth9"]
    assert ranges == ["eth9", "eth9", "nmk-home", "nmk-home", "eth9"]
    assert everything == ["nmk-home", "eth9", "nmk-home", "nmk-home", None]


def test_routers_that_advertise_themselves_are_found(host: Host) -> None:
    shown = run_in(
        host,
        """
        cable("eth9", "fd00:1::2/64")
        cable("eth8", "fd00:2::2/64")
        before = routes.routers_by_advertisement(run)
        ip("-6", "route", "add", "default", "via", "fe80::1", "dev", "eth8", "metric", "9")
        ip("-6", "route", "add", "default", "via", "fe80::1", "dev", "eth9", "proto", "ra")
        show(before=before, after=routes.routers_by_advertisement(run))
        """,
    )
    assert shown == {"before": [], "after": ["eth9"]}


# --- kernel settings


def test_a_kernel_setting_is_read_and_written(host: Host) -> None:
    shown = run_in(
        host,
        """
        path = "net/ipv4/ip_forward"
        sysctl.write(run, path, "0")
        before = sysctl.read(path)
        sysctl.write(DryRunner(shown.append), path, "1")
        dry = sysctl.read(path)
        sysctl.write(run, path, "1")
        show(values=[before, dry, sysctl.read(path)], shown=shown,
             none=[sysctl.read("net/ipv4/conf/eth77/forwarding"), sysctl.read("net/ipv4")])
        """,
    )
    assert shown["values"] == ["0", "0", "1"]
    assert shown["none"] == [None, None]
    assert shown["shown"] == [
        "[#] echo 0 > /proc/sys/net/ipv4/ip_forward",
        "[#] echo 1 > /proc/sys/net/ipv4/ip_forward",
        "[#] echo 1 > /proc/sys/net/ipv4/ip_forward",
    ]


def test_a_kernel_setting_that_cannot_be_set_is_named(host: Host) -> None:
    shown = run_in(
        host,
        """
        errors = []
        for path, value in (("net/ipv4/conf/eth77/forwarding", "1"), ("net/ipv4/ip_forward", "x")):
            try:
                sysctl.write(run, path, value)
            except NmkError as error:
                errors.append([error.code, error.message])
        show(errors=errors)
        """,
    )
    (code, first), (_, second) = shown["errors"]
    assert code == "command-failed"
    assert first.startswith("/proc/sys/net/ipv4/conf/eth77/forwarding cannot be set to 1: ")
    assert second.startswith("/proc/sys/net/ipv4/ip_forward cannot be set to x: ")


# --- packet filters


def test_a_table_is_put_in_place_whole_and_removed_without_trace(host: Host) -> None:
    shown = run_in(
        host,
        """
        def table(name, rule):
            return f"table inet {name} {{\\n\\tchain c {{\\n\\t\\t{rule}\\n\\t}}\\n}}\\n"
        def see():
            return packet_filter.listing(run, "nmk-home")
        packet_filter.replace(run, "other", table("other", "tcp dport 1 counter drop"))
        seen = [see()]
        packet_filter.replace(run, "nmk-home", None)
        for rule in ("udp dport 1 drop", "udp dport 2 counter accept"):
            packet_filter.replace(run, "nmk-home", table("nmk-home", rule))
            seen.append(see())
        error = ""
        try:
            packet_filter.replace(run, "nmk-home", table("nmk-home", "no such thing"))
        except NmkError as caught:
            error = caught.code
        packet_filter.replace(DryRunner(), "nmk-home", None)
        seen.append(see())
        packet_filter.replace(run, "nmk-home", None)
        seen.append(see())
        show(seen=seen, error=error, other=packet_filter.listing(run, "other"),
             all=run.read(["nft", "list", "tables"]), shown=shown[-1])
        """,
    )
    before, first, second, after_error, gone = shown["seen"]
    assert before == gone == ""
    assert ("udp dport 1 drop" in first, "dport 2" in first) == (True, False)
    assert ("udp dport 2 counter accept" in second, "dport 1" in second) == (True, False)
    assert shown["error"] == "command-failed"
    assert after_error == second
    assert "tcp dport 1" in shown["other"]
    assert shown["all"].split() == ["table", "inet", "other"]
    assert shown["shown"].startswith("[#] nft -f -\n    add table inet nmk-home\n    delete table")


def test_what_is_counted_does_not_change_the_listing(host: Host) -> None:
    shown = run_in(
        host,
        """
        rules = "type filter hook output priority 0; policy accept;\\n counter accept"
        packet_filter.replace(run, "t", f"table inet t {{\\n chain c {{\\n {rules}\\n }}\\n}}\\n")
        before = packet_filter.listing(run, "t")
        ip("link", "set", "lo", "up")
        subprocess.run(["ping", "-c1", "-W60", "127.0.0.1"], check=True, capture_output=True)
        counted = run.read(["nft", "list", "table", "inet", "t"])
        show(same=packet_filter.listing(run, "t") == before, before=before, counted=counted)
        """,
    )
    assert "counter" in shown["before"]
    assert "packets 0" not in shown["counted"]
    assert shown["same"]


def test_without_nft_there_is_no_table_and_none_can_be_made(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(packet_filter, "has_tool", lambda _name: False)
    assert packet_filter.listing(Runner(), "nmk-home") == ""
    with pytest.raises(ToolMissing, match="nft is not installed") as missing:
        packet_filter.replace(Runner(), "nmk-home", None)
    assert "nftables" in (missing.value.hint or "")


@pytest.mark.skipif(shutil.which("iptables") is None, reason="iptables is not installed")
@pytest.mark.parametrize("rules", [DOCKER, DOCKER_28], ids=["27", "28"])
def test_the_rules_of_docker_that_are_tried_elsewhere_are_what_iptables_prints(
    host: Host, rules: str
) -> None:
    shown = run_in(
        host,
        f"""
        from nmk.core.docker import plan_docker
        from nmk.system.iptables_rules import parse_rules
        rules = {rules!r}
        for line in rules.splitlines():
            subprocess.run(["iptables", *line.split()], check=True)
        def see():
            return run.read(["iptables", "-S"])
        def plan(wanted):
            return plan_docker([parse_rules(see(), "ip filter")], "nmk-home", wanted=wanted)
        seen, counts = [see()], []
        for wanted in (True, True, False, False):
            commands = plan(wanted)
            counts.append(len(commands))
            for command in commands:
                run.change(command)
            seen.append(see())
        show(seen=seen, counts=counts)
        """,
    )
    before, there, again, gone, still = shown["seen"]
    assert before == gone == still == rules
    assert there == again
    added = sorted(set(there.splitlines()) - set(rules.splitlines()))
    assert added == [f"-A DOCKER-USER {side} nmk-home -j ACCEPT" for side in ("-i", "-o")]
    assert shown["counts"] == [2, 0, 2, 0]
