"""`nmk ping`: through the mesh, by name, and what to do where nobody answers."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from nmk.system.echo import Echo, parse_ping
from tests.lab import Host
from tests.mesh import failure
from tests.seeing.conftest import Pair

IPUTILS = """\
PING 10.77.0.2 (10.77.0.2) from 10.77.0.1 nmk-home: 56(84) bytes of data.
64 bytes from 10.77.0.2: icmp_seq=1 ttl=64 time=0.411 ms
"""
BUSYBOX = """\
PING 10.77.0.2 (10.77.0.2): 56 data bytes
64 bytes from 10.77.0.2: seq=0 ttl=64 time=12.031 ms
"""


@pytest.mark.parametrize(
    ("text", "echo"),
    [(IPUTILS, Echo(0.411)), (BUSYBOX, Echo(12.031)), ("", Echo(None, "no answer"))],
)
def test_what_pings_print(text: str, echo: Echo) -> None:
    assert parse_ping(text) == echo


DEAF = """
table inet deaf {
    chain in {
        type filter hook input priority 0
        iifname nmk-home drop
    }
}
"""


def ping(host: Host, *options: str) -> tuple[int, dict[str, Any]]:
    done = host.run("nmk", "ping", *options, "-o", "json", check=False)
    result: dict[str, Any] = json.loads(done.stdout)
    return done.returncode, result


def test_a_node_that_answers(pair: Pair) -> None:
    exit_code, result = ping(pair.anna, "bert", "-c", "2")
    assert exit_code == 0
    times, handshake = result.pop("milliseconds"), result["path"].pop("handshake")
    assert len(times) == 2
    assert all(t > 0 for t in times)
    assert handshake >= 0
    assert result == {
        "network": "home",
        "node": "bert",
        "address": pair.bert_address,
        "sent": 2,
        "answered": 2,
        "path": {
            "gateway": None,
            "endpoint": f"{pair.bert.address}:51821",
            "kind": "lan",
            "why": "in a subnet of ours",
        },
        "checked": [
            "the interface nmk-home is up",
            f"packets to {pair.bert_address} leave by nmk-home",
        ],
        "problem": None,
        "next": None,
    }


def test_it_tells_people_the_same(pair: Pair) -> None:
    told = pair.anna.run("nmk", "ping", "bert").stdout
    assert re.search(r"^1: [0-9.]+ ms$", told, re.MULTILINE)
    assert "3 of 3 answered\n" in told
    path = rf"^path: {pair.bert.address}:51821 \(lan: in a subnet of ours\), last handshake \d+s"
    assert re.search(path, told, re.MULTILINE)


@pytest.mark.parametrize("family", [4, 6])
def test_by_address(pair: Pair, family: int) -> None:
    address = pair.mesh.address("bert", family)
    exit_code, result = ping(pair.anna, address, "-c", "1")
    assert (exit_code, result["node"], result["address"]) == (0, "bert", address)


def test_with_busyboxs_ping(pair: Pair) -> None:
    pair.anna.run("sh", "-c", 'ln -s "$(command -v busybox)" /usr/local/sbin/ping')
    try:
        assert ping(pair.anna, "bert", "-c", "1")[0] == 0
        found = pair.anna.run("nmk", "doctor").stdout
    finally:
        pair.anna.run("rm", "/usr/local/sbin/ping")
    assert "warn mtu home: this ping cannot send packets of a given size" in " ".join(found.split())


def test_nobody_of_that_name(pair: Pair) -> None:
    assert failure(pair.anna, "ping", "nobody")[:2] == (
        1,
        "'nobody' is no node of home that this machine knows of",
    )
    assert failure(pair.anna, "ping", "anna")[:2] == (2, "'anna' is this machine")


def test_a_tunnel_that_is_down(pair: Pair) -> None:
    pair.anna.run("nmk", "down")
    assert failure(pair.anna, "ping", "bert", "-c", "1") == (
        1,
        "bert does not answer: nmk-home: its owner took it down",
        "nmk up -n home",
    )


def test_a_node_whose_firewall_drops_pings(pair: Pair) -> None:
    pair.bert.run("nft", "-f", "-", input=DEAF)
    try:
        exit_code, result = ping(pair.anna, "bert", "-c", "1")
    finally:
        pair.bert.run("nft", "flush", "ruleset")
    assert exit_code == 1
    assert result["problem"] == "the tunnel to bert works, and bert does not answer pings"


def test_a_node_that_is_off(pair: Pair) -> None:
    pair.bert.stop()
    try:
        exit_code, result = ping(pair.anna, "bert", "-c", "1")
    finally:
        pair.bert.boot()
        pair.bert.run("nmk", "up")
    assert exit_code == 1
    assert result["problem"] == f"nothing comes back from {pair.bert.address}:51821"
    assert result["next"].startswith("on bert: nmk status")
    assert re.search(r"^[1-9]\d* bytes went out to .*, 0 came back$", result["checked"][-1])


def test_an_endpoint_to_which_there_is_no_route(pair: Pair) -> None:
    pair.anna.run("ip", "link", "set", "eth0", "down")
    try:
        exit_code, result = ping(pair.anna, "bert", "-c", "1")
    finally:
        pair.anna.reboot()
    assert exit_code == 1
    assert result["problem"] == f"this machine has no route to {pair.bert.address}:51821"
