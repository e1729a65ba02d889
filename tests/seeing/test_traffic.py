"""What an agent says of its traffic, from its counters to `nmk node show`."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nmk.cli.node import traffic_lines
from nmk.core.health import Counters
from nmk.core.traffic import LONGEST, MOST_BUSIEST, encode_traffic, parse_traffic, sum_up
from nmk.errors import BadInput
from nmk.server.presence import Presence
from nmk.server.traffic import traffic_json
from nmk.wire.messages import CheckIn, encode_check_in, parse_check_in

ids = st.integers(0, 2**64 - 1).map(lambda n: f"{n:016x}")
counters = st.builds(
    Counters,
    st.none() | st.integers(0, 10**9),
    st.integers(0, 2**59),
    st.integers(0, 2**59),
)


@given(st.dictionaries(ids, counters, max_size=20))
def test_the_summary_arrives(peers: dict[str, Counters]) -> None:
    said = sum_up(peers)
    text = encode_traffic(said)
    assert len(text) <= LONGEST
    heard = parse_traffic(text)
    assert (heard.received, heard.sent, heard.live, heard.handshake) == (
        sum(p.received for p in peers.values()),
        sum(p.sent for p in peers.values()),
        sum(p.handshake is not None and p.handshake < 180 for p in peers.values()),
        min((p.handshake for p in peers.values() if p.handshake is not None), default=None),
    )
    assert len(heard.busiest) <= MOST_BUSIEST
    assert list(heard.busiest.items()) == list(said.busiest.items())[: len(heard.busiest)]


def test_the_busiest_come_first_and_all_eight_have_room() -> None:
    peers = {f"{n:016x}": Counters(n, n * 10**8, 10**8) for n in range(20)}
    busiest = parse_traffic(encode_traffic(sum_up(peers))).busiest
    assert list(busiest) == [f"{n:016x}" for n in range(19, 19 - MOST_BUSIEST, -1)]
    assert busiest[f"{19:016x}"] == Counters(19, 19 * 10**8, 10**8)


@given(st.text(max_size=60))
def test_garbage_is_refused(text: str) -> None:
    try:
        parse_traffic(text)
    except BadInput:
        return
    assert text.count(",") >= 3


def test_it_travels_with_a_check_in_that_stays_small() -> None:
    peers = {f"{n:016x}": Counters(10**8, 10**18, 10**18) for n in range(20)}
    message = CheckIn(10**6, "0123456789abcdef", traffic=encode_traffic(sum_up(peers)))
    body = encode_check_in(message)
    assert len(body) < 512  # what is longer is deflated, which costs the controller more
    assert parse_check_in(body) == message


@pytest.mark.parametrize("traffic", [7, None, [], "x" * (LONGEST + 1)])
def test_a_check_in_with_another_thing_is_refused(traffic: object) -> None:
    with pytest.raises(BadInput, match="traffic"):
        parse_check_in(json.dumps({"at": [1, "c"], "traffic": traffic}).encode())


def test_the_controller_remembers_the_last_word() -> None:
    clock = 100.0
    presence = Presence({}, lambda: 0.0, lambda: clock)
    assert presence.traffic("anna") is None
    presence.hear("anna", "1,2,0,-")
    clock = 130.0
    presence.hear("anna")  # an interface that is down says nothing
    assert presence.traffic("anna") == (30, "1,2,0,-")
    assert presence.traffic("bert") is None


def test_ages_are_of_now_and_peers_have_names() -> None:
    text = "2048,17,1,5 aaaaaaaaaaaaaaaa,2000,10,5 bbbbbbbbbbbbbbbb,48,7,-"
    shown = traffic_json((60, text), {"aaaaaaaaaaaaaaaa": "db"})
    assert shown == {
        "received": 2048,
        "sent": 17,
        "live_peers": 1,
        "handshake": 65,
        "told": 60,
        "busiest": [{"name": "db", "received": 2000, "sent": 10, "handshake": 65}],
    }
    assert traffic_lines(shown) == (
        "received 2.0 KiB, sent 17 B, peers in touch: 1",
        "db: received 2.0 KiB, sent 10 B, handshake 65s ago",
    )
    assert traffic_json((60, "nonsense"), {}) is None
    assert traffic_json(None, {}) is None
    assert traffic_lines(None) == ("not told yet",)
