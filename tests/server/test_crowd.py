"""Who has to go when there are too many clients, or they hold too much."""

from __future__ import annotations

import fcntl
import socket
import sys
import termios
import time
from contextlib import closing, suppress
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from waitress import wasyncore

from nmk.server import crowd as crowds
from nmk.server import log
from nmk.server.crowd import LEAST, MAX_HELD, Crowd
from nmk.server.limits import site_of
from nmk.server.serving import Listener, _servers, open_tcp
from tests.engines.nest import free_ports
from tests.lab.polling import poll

PLACES = 40
NOW = 1000.0
PIECE = MAX_HELD // 8


@dataclass(eq=False)
class Client:
    crowd: Crowd
    site: str = "a"
    waiting_since: float = NOW
    busy: bool = False
    asking: bool = True
    held: int = 0
    late: bool = False
    gone: bool = field(default=False, init=False)

    def __post_init__(self) -> None:
        self.crowd.enter(self)

    def overdue(self, now: float) -> str:
        assert now == NOW
        return "late" if self.late else ""

    def cut(self) -> None:
        self.gone = True
        self.crowd.leave(self)
        self.crowd.leave(self)


def made(places: int = PLACES) -> Crowd:
    return Crowd(places, max(LEAST, places // 4))


def test_whose_time_is_over_goes() -> None:
    crowd = made()
    late, fine = Client(crowd, late=True), Client(crowd)
    assert crowd.settle(NOW)
    assert (late.gone, fine.gone, len(crowd)) == (True, False, 1)


def test_above_an_addresss_share_its_slowest_goes() -> None:
    crowd = made()
    other = Client(crowd, "b", waiting_since=NOW - 100)
    slow = Client(crowd, waiting_since=NOW - 20)
    busy = Client(crowd, waiting_since=NOW - 30, busy=True)
    rest = [Client(crowd, waiting_since=NOW - 10) for _ in range(crowd.share - 1)]
    crowd.settle(NOW)
    assert slow.gone
    assert not any(c.gone for c in (other, busy, *rest))


def test_where_all_of_an_address_have_just_come_the_oldest_goes() -> None:
    crowd = made()
    answered = Client(crowd, waiting_since=NOW - 0.5, asking=False)
    clients = [Client(crowd, waiting_since=NOW - 0.1 + n / 1000) for n in range(crowd.share)]
    crowd.settle(NOW)
    assert [c.gone for c in clients] == [True] + [False] * (crowd.share - 1)
    assert not answered.gone


def test_who_takes_a_reply_for_long_makes_room_for_the_next() -> None:
    crowd = made()
    slow = [
        Client(crowd, waiting_since=NOW - 9 + n / 100, asking=False) for n in range(crowd.share)
    ]
    newcomer = Client(crowd)
    crowd.settle(NOW)
    assert [c.gone for c in slow] == [True] + [False] * (crowd.share - 1)
    assert not newcomer.gone


def test_with_grace_those_that_have_just_come_wait_for_a_place() -> None:
    crowd = Crowd(PLACES, PLACES, grace=1)
    clients = [Client(crowd) for _ in range(PLACES)]
    assert not crowd.settle(NOW)
    assert not any(c.gone for c in clients)
    clients[7].waiting_since = NOW - 1
    assert crowd.settle(NOW)
    assert [c.gone for c in clients].index(True) == 7


def test_a_full_house_makes_room_for_one_more() -> None:
    crowd = made()
    for number in range(PLACES):
        Client(crowd, f"site-{number % 8}", waiting_since=NOW - 5 - number)
    greedy = Client(crowd, "site-0", waiting_since=NOW - 2)
    assert crowd.settle(NOW)
    assert len(crowd) == PLACES - 1
    assert not greedy.gone  # of its address another one was slower


def test_a_full_house_of_clients_that_have_just_come_makes_room() -> None:
    crowd = made()
    clients = [Client(crowd, f"site-{number % 8}") for number in range(PLACES)]
    assert crowd.settle(NOW)
    assert sum(c.gone for c in clients) == 1


def test_a_full_house_that_is_being_answered_waits_and_the_log_says_so(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    told: dict[Any, Any] = {}
    monkeypatch.setattr(log, "_told", told)
    crowd = made()
    clients = [Client(crowd, f"site-{n % 8}", busy=n % 2 == 0, asking=False) for n in range(PLACES)]
    assert not crowd.settle(NOW)
    assert not crowd.settle(NOW)
    assert not any(c.gone for c in clients)
    [(kind, (_, more))] = told.items()
    assert (kind[0], more) == ("no-place-left", 0)
    clients[0].cut()
    assert crowd.settle(NOW)


def test_who_holds_the_most_goes_first() -> None:
    crowd = made()
    greedy = [Client(crowd, "a", held=PIECE, waiting_since=NOW - 9 + n) for n in range(8)]
    modest = [Client(crowd, "b", held=PIECE, waiting_since=NOW - 99) for _ in range(2)]
    crowd.replies.append(MAX_HELD + 1)
    crowd.settle(NOW)
    assert [c.gone for c in greedy] == [True] * 6 + [False] * 2
    assert not any(c.gone for c in modest)


def test_what_came_and_went_is_no_reason() -> None:
    crowd = made()
    client = Client(crowd, held=PIECE)
    crowd.grown += 100 * MAX_HELD
    crowd.settle(NOW)
    assert not client.gone
    assert crowd.grown == PIECE


CLIENTS = st.tuples(
    st.sampled_from("abcdefgh"),
    st.floats(0, NOW),
    st.booleans(),
    st.booleans(),
    st.integers(0, MAX_HELD // 2),
    st.booleans(),
)


@given(st.lists(CLIENTS, max_size=60), st.integers(LEAST, 50))
def test_every_bound_holds(
    described: list[tuple[str, float, bool, bool, int, bool]], places: int
) -> None:
    crowd = made(places)
    clients = [Client(crowd, *what) for what in described]
    crowd.replies.append(sum(c.held for c in clients))
    has_room = crowd.settle(NOW)
    left = [c for c in clients if not c.gone]
    assert len(left) == len(crowd)
    assert has_room == (len(left) < places)
    assert not any(c.gone for c in clients if c.busy and not c.late)
    idle = [c for c in left if not c.busy]
    movable = [c for c in idle if c.asking or NOW - c.waiting_since >= crowds.GRACE_SECONDS]
    assert sum(c.held for c in left) <= MAX_HELD or not any(c.held for c in idle)
    for site in {c.site for c in movable}:
        assert sum(c.site == site for c in left) <= crowd.share
    assert has_room or not movable


def test_sites() -> None:
    assert site_of("203.0.113.7") == "203.0.113.7"
    assert site_of("2001:db8:1:2:3:4:5:6") == site_of("2001:db8:1:2::1%eth0") == "2001:db8:1:2::/64"


def test_whose_reply_is_made_has_kept_nobody_waiting() -> None:
    """However long its request waited for a worker: there is no moment to cut it off in."""
    crowd, channels = made(), dict[int, Any]()
    waited: list[float] = []

    def answer(_: object, start: Any) -> list[bytes]:
        [client] = crowd.clients()
        client.last_activity = 0  # type: ignore[attr-defined]  # of a Connection
        start("200 OK", [("Content-Length", "2")])
        return [b"ok"]

    def told() -> None:
        waited.extend(time.time() - c.waiting_since for c in crowd.clients() if not c.busy)

    listening = socket.create_server(("127.0.0.1", 0))
    [server] = _servers(Listener(answer, [listening], 1000, 1, 40, 40), crowd, channels)
    server.pull_trigger = told  # what a worker calls when it has taken the request away
    with closing(server), socket.create_connection(listening.getsockname()) as client:
        client.sendall(b"GET / HTTP/1.1\r\nHost: nmk\r\n\r\n")
        client.setblocking(False)

        def is_done() -> bool:
            wasyncore.loop(timeout=0.01, map=channels, use_poll=True, count=1)
            return bool(waited)

        poll(is_done, 10, "reply")
        for c in crowd.clients():
            c.cut()
        server.task_dispatcher.shutdown()
    assert max(waited) < crowds.GRACE_SECONDS


def test_the_kernel_keeps_so_much_of_what_a_client_does_not_read() -> None:
    [listener] = open_tcp(f"127.0.0.1:{free_ports(1)[0]}")
    with listener, socket.create_connection(listener.getsockname()), listener.accept()[0] as made:
        made.setblocking(False)
        with suppress(BlockingIOError):
            while made.send(bytes(64 * 1024)):
                pass
        kept = int.from_bytes(fcntl.ioctl(made, termios.TIOCOUTQ, bytes(4)), sys.byteorder)
    # The kernel looks before each piece, which has up to 64 KiB, whether there is room.
    assert 0 < kept <= (128 + 64) * 1024
