from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from nmk.agent.status import Row, describe_peer
from nmk.cli.machine_status import show_age, show_bytes, show_status
from nmk.core.peers import parse_view
from nmk.core.tunnel import TunnelPeer
from nmk.system.dump import LivePeer
from tests.agent.memberships import joined, peer

GOLDEN = Path(__file__).with_name("status.txt")
NETWORK: Row = {
    "network": "home",
    "name": "web",
    "addresses": ["10.77.0.1", "fd00::1"],
    "interface": "nmk-home",
    "state": "up",
    "listen_port": 51821,
    "controller": {"url": "http://192.0.2.1:50051", "reachable": True},
    "peers": [
        {
            "name": "db",
            "addresses": ["10.77.0.2"],
            "endpoint": "192.168.1.2:51821",
            "kind": "lan",
            "handshake": 42,
            "received": 1536,
            "sent": 17,
        },
        {
            "name": "phone",
            "addresses": ["10.77.0.3"],
            "endpoint": None,
            "kind": None,
            "handshake": None,
            "received": 0,
            "sent": 0,
        },
    ],
}


def test_for_people(capsys: pytest.CaptureFixture[str]) -> None:
    alone = NETWORK | {
        "network": "office",
        "state": "missing",
        "controller": {"url": "https://vpn.example:443", "reachable": False},
        "peers": [],
    }
    show_status([NETWORK, alone], "table")
    assert capsys.readouterr().out == GOLDEN.read_text()


def test_for_scripts(capsys: pytest.CaptureFixture[str]) -> None:
    show_status([NETWORK], "json")
    assert json.loads(capsys.readouterr().out) == [NETWORK]
    show_status([NETWORK], "name")
    assert capsys.readouterr().out == "db\nphone\n"


@pytest.mark.parametrize(
    ("seconds", "shown"), [(0, "0s"), (119, "119s"), (120, "2m"), (7200, "2h"), (200_000, "2d")]
)
def test_an_age(seconds: int, shown: str) -> None:
    assert show_age(seconds) == shown


@pytest.mark.parametrize(
    ("count", "shown"), [(0, "0 B"), (1023, "1023 B"), (1024, "1.0 KiB"), (5 * 2**50, "5120.0 TiB")]
)
def test_an_amount(count: int, shown: str) -> None:
    assert show_bytes(count) == shown


def test_a_peer_by_its_path() -> None:
    me = joined(peer(2))
    assert me.known
    view = parse_view(me.known.json, "home")
    [entry] = view.peers.values()
    lan = ("192.168.1.1/24",)
    chosen = TunnelPeer(entry.key, (), 0, "192.168.1.2:51821")
    shown = describe_peer(entry, LivePeer(chosen, 100, 5, 7), view, lan, 142.9)
    assert shown == {
        "name": "peer-2",
        "addresses": ["10.77.0.2"],
        "endpoint": "192.168.1.2:51821",
        "kind": "lan",
        "handshake": 42,
        "received": 5,
        "sent": 7,
    }
    roamed = LivePeer(replace(chosen, endpoint="192.0.2.7:1"), 0, 0, 0)
    shown = describe_peer(entry, roamed, view, lan, 0)
    assert (shown["kind"], shown["endpoint"]) == ("roamed", "192.0.2.7:1")
    assert shown["handshake"] is None
