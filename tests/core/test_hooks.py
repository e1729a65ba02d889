from __future__ import annotations

from dataclasses import replace

from hypothesis import given

from nmk.core.hooks import MOST_PEERS, Event, environment_of, events_of
from nmk.core.tunnel import Tunnel, diff_tunnel
from tests.core.made import key32
from tests.core.test_tunnel import endpoints, peer, tunnel, tunnels, view


def events(want: Tunnel, live: Tunnel | None) -> list[Event]:
    set_before = endpoints(live) if live else {}
    return events_of(want, live, diff_tunnel(want, live, set_before))


def test_an_interface_that_comes_up_is_one_event() -> None:
    assert events(tunnel(1, 2), None) == [Event("up")]
    assert events(tunnel(1, 2), tunnel(1, up=False)) == [Event("up")]


def test_peers_that_go_and_come_are_events_in_that_order() -> None:
    assert events(tunnel(2, 3), tunnel(1, 2)) == [
        Event("peer-removed", peer(1)),
        Event("peer-added", peer(3)),
    ]


def test_of_many_peers_some_are_named_and_the_others_counted() -> None:
    many = tunnel(*range(1, 301))
    come, gone = events(many, tunnel()), events(tunnel(), many)
    assert [e.peer is None for e in come] == [False] * MOST_PEERS + [True]
    assert come[-1] == Event("peer-added", more=300 - MOST_PEERS)
    assert gone[-1] == Event("peer-removed", more=300 - MOST_PEERS)
    told = environment_of(come[-1], "office", "nmk-office", view(), {})
    assert (told["NMK_PEER"], told["NMK_MORE"]) == ("", str(300 - MOST_PEERS))
    assert len(events(tunnel(*range(1, 1 + MOST_PEERS)), tunnel())) == MOST_PEERS
    exchanged = events(tunnel(*range(301, 601)), many)  # each event has a hook of its own to count
    assert [e for e in exchanged if e.more] == [gone[-1], come[-1]]


@given(tunnels())
def test_nothing_happens_where_nothing_differs(live: Tunnel) -> None:
    assert events(live, live) == []


def test_a_peer_that_changes_stays_the_same_peer() -> None:
    moved = tunnel(peers={key32(1): peer(1, endpoint="192.0.2.1:1", keepalive=0)})
    assert events(replace(moved, mtu=1300, listen_port=1), tunnel(1)) == []


def test_a_hook_is_told_what_happened_to_whom() -> None:
    member = peer(1, allowed_ips=("10.20.0.7/32", "192.168.7.0/24", "fd20::7/128"))
    told = environment_of(
        Event("peer-added", member), "office", "nmk-office", view(), {key32(1): "db"}
    )
    assert told == {
        "NMK_EVENT": "peer-added",
        "NMK_NETWORK": "office",
        "NMK_INTERFACE": "nmk-office",
        "NMK_NODE": "n1",
        "NMK_ADDRESSES": "10.20.0.1",
        "NMK_PEER": "db",
        "NMK_PEER_ADDRESSES": "10.20.0.7 192.168.7.0/24 fd20::7",
        "NMK_PEER_KEY": key32(1),
    }
    assert environment_of(Event("down"), "home", "nmk-home", None, {}) == {
        "NMK_EVENT": "down",
        "NMK_NETWORK": "home",
        "NMK_INTERFACE": "nmk-home",
        "NMK_NODE": "",
        "NMK_ADDRESSES": "",
    }
