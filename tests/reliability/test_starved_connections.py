"""Connections and descriptors used up by clients that are slow, idle or lie: others are served."""

from __future__ import annotations

import resource
import socket
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from http.client import HTTPConnection
from pathlib import Path
from secrets import token_bytes

import pytest

from nmk.errors import StoreUnavailable
from nmk.server.agents import STRANGER_BURST, STRANGER_RATE
from nmk.wire.envelope import NO_EPOCH, Identity, Kind, SessionKeys, seal_request
from tests.lab import patient, poll
from tests.reliability.served import Agent, Served, serving_home
from tests.server.process import NMK

IMPATIENT = (
    sys.executable,
    "-c",
    "import nmk.cli.main, nmk.server.connections as c; c.REQUEST_SECONDS = 2; nmk.cli.main.main()",
)
HEAD = b"POST /v1/checkin HTTP/1.1\r\nHost: nmk\r\nContent-Length: 100000\r\n"
TIRED = "no-descriptor-left"
MIB = 1024 * 1024


@contextmanager
def clients(served: Served, number: int) -> Iterator[list[socket.socket]]:
    """Connections that nothing has been sent on yet."""
    with ExitStack() as stack:
        address = ("127.0.0.1", served.port)
        opened = [socket.create_connection(address, patient(10)) for _ in range(number)]
        for client in opened:
            stack.enter_context(client)
            client.setblocking(False)
        yield opened


def still_open(client: socket.socket) -> bool:
    """Whether the controller has not hung up."""
    try:
        return client.recv(1) != b""
    except BlockingIOError:
        return True
    except OSError:
        return False


def feed(client: socket.socket) -> bool:
    """Send one more byte; whether anybody is there to take it."""
    try:
        client.send(b"P")
    except OSError:
        return False
    return still_open(client)


def assert_served(served: Served, agent: Agent) -> None:
    """Whoever is known checks in, whoever is new joins, and the admin is answered."""
    assert "at" in agent.check_in()
    new = Agent(served, served.token(), "new")
    new.join()
    new.leave()


@pytest.fixture
def agent(served: Served) -> Agent:
    agent = Agent(served, served.token(), "anna")
    agent.join()
    return agent


@pytest.mark.parametrize("begun", [b"", HEAD, HEAD + b"\r\n"], ids=["line", "head", "body"])
def test_a_byte_at_a_time(tmp_path: Path, full: bool, begun: bytes) -> None:
    with serving_home(tmp_path, (), NMK if full else IMPATIENT) as served:
        agent = Agent(served, served.token(), "anna")
        agent.join()
        with clients(served, 60) as slow:
            for client in slow:
                client.sendall(begun)
            alive = slow

            def all_cut() -> bool:
                nonlocal alive
                agent.check_in()
                alive = [client for client in alive if feed(client)]
                return not alive

            poll(all_cut, 60, "end of the slow clients")
        assert_served(served, agent)
        assert "Traceback" not in served.log


def test_two_hundred_idle_connections(served: Served, agent: Agent) -> None:
    before = served.descriptors()
    with clients(served, 200) as idle:
        # Before, it may have had some that are let go meanwhile.
        poll(lambda: served.descriptors() >= 200, 10, "connections taken")
        for _ in range(20):
            assert_served(served, agent)
        assert all(map(still_open, idle))
    poll(lambda: served.descriptors() < before + 30, 10, "connections let go")


@contextmanager
def descriptors_left(served: Served, number: int) -> Iterator[None]:
    """A controller that cannot open more files and sockets than this."""
    before = resource.prlimit(served.pid, resource.RLIMIT_NOFILE)
    resource.prlimit(served.pid, resource.RLIMIT_NOFILE, (served.descriptors() + number, before[1]))
    try:
        yield
    finally:
        resource.prlimit(served.pid, resource.RLIMIT_NOFILE, before)


def test_no_descriptor_left(served: Served, agent: Agent) -> None:
    with descriptors_left(served, 0), clients(served, 20):
        poll(lambda: TIRED in served.log, 20, "word of it")
    poll(served.answers, 10, "controller that answers again")
    for _ in range(20):
        assert_served(served, agent)
    assert "Traceback" not in served.log
    assert served.log.count(TIRED) == 1


def test_no_descriptor_left_for_the_database(served: Served) -> None:
    """A thread opens the database when it first needs it."""
    newcomer = Agent(served, served.token(), "anna")
    with descriptors_left(served, 1), pytest.raises(StoreUnavailable, match="unable to open"):
        newcomer.join()
    newcomer.join()
    assert_served(served, newcomer)
    assert "Traceback" not in served.log


def test_every_place_taken(tmp_path: Path) -> None:
    """More idle connections than the controller holds, and more of them whenever some end."""
    with serving_home(tmp_path, ("prlimit", "--nofile=150")) as served:
        agent = Agent(served, served.token(), "anna")
        agent.join()
        with ExitStack() as stack:
            for _ in range(3):
                stack.enter_context(clients(served, 100))
                assert_served(served, agent)


class Forger:
    """Sends check-ins of identities that do not exist, from one address."""

    def __init__(self, served: Served, address: str) -> None:
        self._http = HTTPConnection("127.0.0.1", served.port, patient(10), (address, 0))
        self._keys = SessionKeys(token_bytes(32), token_bytes(32))

    def send(self) -> int:
        """One more: the HTTP status."""
        forged = Identity.generate().public
        _, message = seal_request(self._keys, Kind.CHECK_IN, forged, NO_EPOCH, "home", b"{}")
        self._http.request("POST", "/v1/checkin", message)
        response = self._http.getresponse()
        response.read()
        return response.status

    def close(self) -> None:
        self._http.close()


def test_forged_identities(served: Served, agent: Agent) -> None:
    forger = Forger(served, "127.0.0.9")
    began = time.monotonic()
    answers = Counter(forger.send() for _ in range(int(STRANGER_BURST) + 500))
    answers.update(iter(forger.send, 429))  # a slow machine does not ask too fast at once
    let_through = STRANGER_BURST + STRANGER_RATE * (time.monotonic() - began)
    assert answers.keys() <= {400, 429}
    assert answers[400] <= let_through + 1
    assert_served(served, agent)
    forger.close()


def test_forged_identities_from_everywhere(served: Served, agent: Agent, full: bool) -> None:
    def flood(third: int) -> int:
        for fourth in range(1, 251 if full else 101):
            forger = Forger(served, f"127.1.{third}.{fourth}")
            assert [forger.send() for _ in range(4)] == [400] * 4
            forger.close()
        assert_served(served, agent)
        return served.memory()

    warm = flood(0)
    assert max(flood(third) for third in range(1, 41 if full else 5)) < warm + 8 * MIB
