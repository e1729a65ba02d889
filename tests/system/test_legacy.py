"""Rules of the old iptables, which nft does not show, are looked at as well."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LOOK = """
from nmk.agent.checks.firewall import check_firewall
from nmk.agent.checks.reverse_path import check_reverse_path
from nmk.core.routes import Routing
from nmk.system.firewall import read_tables
from nmk.system.needs import who_needs
from nmk.system.runner import Runner
from tests.agent.memberships import joined
run = Runner()
print(who_needs(run, "net/ipv4/ip_forward", "nmk-"))
me = joined()
for found in check_firewall(me, 51821, read_tables(run)):
    print(found.reason, "/", found.mend)
for found in check_reverse_path(me, Routing({}, ("192.168.50.0/24",)), run):
    print(found.reason, "/", found.mend)
"""
LEGACY = Path("/proc/net/ip_tables_names")

pytestmark = pytest.mark.skipif(
    os.geteuid() != 0 or not (shutil.which("iptables-legacy") and LEGACY.exists()),
    reason="needs root and the old iptables",
)


def told(*rules: str) -> str:
    """What is said of a machine with these rules; how to mend it is carried out."""
    script = " && ".join([*(f"iptables-legacy {rule}" for rule in rules), 'exec "$0" -c "$1"'])
    argv = ["unshare", "--net", "sh", "-c", script, sys.executable, LOOK]
    return subprocess.run(argv, check=True, capture_output=True, text=True, cwd=ROOT).stdout


def test_rules_of_the_old_iptables_are_looked_at() -> None:
    shown = told(
        "-t nat -A POSTROUTING -s 10.9.0.0/16 -j MASQUERADE",
        "-P FORWARD DROP",
        "-P INPUT DROP",
        "-t raw -A PREROUTING -i eth0 -m rpfilter --invert -j DROP",
        "-t mangle -A PREROUTING -m rpfilter --loose --invert -j DROP",
    ).splitlines()
    assert shown[0] == "the packet filter translates addresses (ip nat, iptables-legacy)"
    call, passed, strict = shown[1:]
    assert call.startswith("ip filter INPUT (iptables-legacy) drops UDP port 51821: ")
    assert call.endswith(" / iptables-legacy -I INPUT -p udp --dport 51821 -j ACCEPT")
    assert passed.startswith("ip filter FORWARD (iptables-legacy) drops what this machine forwards")
    assert passed.endswith(
        " / iptables-legacy -I FORWARD -i nmk-home -j ACCEPT && "
        "iptables-legacy -I FORWARD -o nmk-home -j ACCEPT"
    )
    assert strict.startswith("ip raw PREROUTING has `-A PREROUTING -i eth0 -m rpfilter --invert")
    assert strict.endswith(
        " / iptables-legacy -t raw -D PREROUTING -i eth0 -m rpfilter --invert -j DROP"
    )


def test_without_rules_nothing_is_said_of_them() -> None:
    assert "legacy" not in told()
