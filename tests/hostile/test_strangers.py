"""Strangers at the node port: whatever they send and do not read, all others are served.

The controller runs as it is, with the file `nmk` to hand out; only its patience is shorter where a
test waits for the end of it.
"""

from __future__ import annotations

import logging
import select
import socket
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import pytest
from typing_extensions import Self

from nmk.server.log import start_log
from tests.lab import patient, poll
from tests.mesh import NMK
from tests.reliability.served import Agent, Served, serving_home

SHORT = 3  # seconds
IMPATIENT = f"""
import nmk.cli.main, nmk.server.connections as c
NMK_FILE = {str(NMK)!r}
c.REQUEST_SECONDS = c.STALL_SECONDS = {SHORT}
nmk.cli.main.main()
"""
PROGRAM = b"GET /nmk HTTP/1.1\r\nHost: nmk\r\n\r\n"
POST = b"POST /v1/checkin HTTP/1.1\r\nHost: nmk\r\n"
MIB = 1024 * 1024
CUT = "client-cut"


@pytest.fixture
def impatient(tmp_path: Path) -> Iterator[Served]:
    with serving_home(tmp_path, (), (sys.executable, "-c", IMPATIENT)) as served:
        yield served


class Stranger:
    """Someone who opens connections from one address, sends, and reads nothing unless asked."""

    def __init__(self, served: Served, address: str = "127.0.0.1") -> None:
        self.served = served
        self.address = address
        self.open: list[socket.socket] = []
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def send(self, data: bytes, connections: int = 1) -> None:
        """Send this on so many new connections, or as much of it as is taken at once."""
        for _ in range(connections):
            target = ("127.0.0.1", self.served.port)
            made = socket.create_connection(target, patient(10), (self.address, 0))
            self.open.append(self._stack.enter_context(made))
            made.setblocking(False)
            try:
                made.send(data)
            except OSError:
                continue  # cut already

    def say(self, data: bytes) -> None:
        """Send this on all that are open."""
        for client in self.open:
            with suppress(OSError):  # cut already
                client.send(data)

    @property
    def is_cut(self) -> bool:
        """Whether the controller has hung up on all of them."""
        return all(map(is_cut, self.open))


def is_cut(client: socket.socket) -> bool:
    """Whether nothing more comes; does not read what has."""
    poller = select.poll()
    poller.register(client, select.POLLRDHUP)
    return bool(poller.poll(0))


def has_some(client: socket.socket) -> bool:
    """Whether something has come."""
    poller = select.poll()
    poller.register(client, select.POLLIN)
    return bool(poller.poll(0))


@contextmanager
def within(seconds: float) -> Iterator[None]:
    start = time.monotonic()
    yield
    assert time.monotonic() - start < patient(seconds)


def member(served: Served) -> Agent:
    agent = Agent(served, served.token(), "anna")
    agent.join()
    return agent


def assert_others_are_served(served: Served, agent: Agent) -> None:
    """Whoever is known checks in, whoever is new joins, and the admin is answered."""
    with within(20):  # on a machine that does much else
        assert "at" in agent.check_in()
        new = Agent(served, served.token(), "new")
        new.join()
        new.leave()


def spooled(served: Served) -> list[str]:
    """Files without a name that the controller has open."""
    links = []
    for link in Path(f"/proc/{served.pid}/fd").iterdir():
        try:
            links.append(str(link.readlink()))
        except OSError:
            continue  # closed meanwhile
    return [name for name in links if name.endswith("(deleted)") and "memfd" not in name]


def lines(served: Served, reason: str) -> list[str]:
    return [line for line in served.log.splitlines() if CUT in line and f"reason={reason}" in line]


def test_replies_that_nobody_reads(impatient: Served) -> None:
    agent = member(impatient)
    with Stranger(impatient) as stranger:
        stranger.send(PROGRAM * 20, connections=4)
        for _ in range(3):
            assert_others_are_served(impatient, agent)
        poll(lambda: stranger.is_cut, SHORT + 10, "end of who does not read")
        assert len(lines(impatient, "reply-not-taken")) == 1
    assert_others_are_served(impatient, agent)
    assert "Traceback" not in impatient.log


def test_many_replies_that_nobody_reads_cost_no_copies(impatient: Served) -> None:
    agent = member(impatient)
    before = impatient.memory()
    with Stranger(impatient) as stranger:
        stranger.send(PROGRAM * 20, connections=60)
        poll(lambda: impatient.descriptors() > 60, 10, "connections taken")
        assert_others_are_served(impatient, agent)
        assert spooled(impatient) == []
        assert impatient.memory() < before + 32 * MIB
        poll(lambda: stranger.is_cut, SHORT + 10, "end of who does not read")


def test_stopped_while_nobody_reads(impatient: Served) -> None:
    with Stranger(impatient) as stranger:
        stranger.send(PROGRAM * 20, connections=8)
        stranger.send(POST, connections=8)
        poll(lambda: all(map(has_some, stranger.open[:4])), 10, "replies that begin")
        with within(8):
            impatient.stop()


def test_requests_that_never_end(impatient: Served) -> None:
    """Large heads, and large bodies of which the last byte does not come, from four addresses."""
    agent = member(impatient)
    assert_others_are_served(impatient, agent)
    before = impatient.memory()
    body = POST + b"Content-Length: 260000\r\n\r\n" + b"x" * 259_000
    with ExitStack() as stack:
        for number in range(4):
            stranger = stack.enter_context(Stranger(impatient, f"127.0.1.{number + 1}"))
            stranger.send(POST + b"X: " + b"x" * 8000, connections=20)
            stranger.send(body, connections=100)
        assert_others_are_served(impatient, agent)
        assert spooled(impatient) == []
        assert impatient.memory() < before + 80 * MIB, impatient.memory() - before
    assert len(lines(impatient, "too-many-bytes")) <= 1
    poll(lambda: impatient.descriptors() < 60, 10, "connections let go")
    assert_others_are_served(impatient, agent)
    poll(lambda: impatient.memory() < before + 32 * MIB, 10, "memory given back")


def test_an_address_has_its_share_of_the_connections(impatient: Served) -> None:
    agent = member(impatient)
    with Stranger(impatient, "127.0.1.1") as stranger:
        stranger.send(b"", connections=400)
        assert_others_are_served(impatient, agent)
        assert impatient.descriptors() < 300
        assert len(lines(impatient, "too-many-connections")) == 1


def test_a_burst_of_commands_is_answered_whole(impatient: Served) -> None:
    """More than there are places, of one address, each sent a moment after it has connected."""
    with ExitStack() as stack:
        clients = [stack.enter_context(socket.socket(socket.AF_UNIX)) for _ in range(100)]
        for client in clients:
            client.settimeout(patient(30))
            client.connect(str(impatient.data / "admin.sock"))
        for client in clients:
            client.sendall(b"GET /v1/networks HTTP/1.1\r\nHost: nmk\r\nConnection: close\r\n\r\n")
        replies = [client.makefile("rb").read() for client in clients]
    assert {reply[9:12] for reply in replies} == {b"200"}
    assert not lines(impatient, CUT)


@pytest.mark.parametrize(
    ("head", "status"),
    [
        (POST + b"X: " + b"x" * 8192 + b"\r\n\r\n", 431),
        (b"GET /healthz HTTP/1.1\r\n" + b"X: \r\n" * 80 + b"\r\n", 400),
        (POST + b"Transfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n", 411),
    ],
    ids=["long", "many lines", "chunked"],
)
def test_heads_are_bounded(impatient: Served, head: bytes, status: int) -> None:
    with socket.create_connection(("127.0.0.1", impatient.port), patient(10)) as client:
        client.sendall(head)
        assert client.recv(12)[9:] == b"%d" % status
    assert impatient.answers()


def test_a_connection_has_one_request(impatient: Served) -> None:
    """Whatever it asks for: who is kept has a place that others have to do without."""
    head = b"GET /healthz HTTP/1.1\r\nHost: nmk\r\nConnection: keep-alive\r\n\r\n"
    with socket.create_connection(("127.0.0.1", impatient.port), patient(10)) as client:
        client.sendall(head)
        received = b""
        while chunk := client.recv(65536):
            received += chunk
    assert received.endswith(b"\r\n\r\nok\n")
    assert b"Connection: close" in received


@pytest.mark.parametrize("data", [b"\r\n\r\n", b"x"], ids=["empty requests", "single bytes"])
def test_what_is_no_request_renews_nothing(impatient: Served, data: bytes) -> None:
    with Stranger(impatient) as stranger:
        stranger.send(data, connections=3)
        deadline = time.monotonic() + patient(SHORT + 10)
        while not stranger.is_cut:
            assert time.monotonic() < deadline, "still there"
            stranger.say(data)
            select.select([], [], [], 0.1)


@pytest.mark.parametrize("data", [b"\r\n\r\n", b"GET /healthz HTTP/1.1\r\nHost: nmk\r\n\r\n"])
@pytest.mark.parametrize(("sites", "victim"), [(4, "127.0.0.9"), (1, "127.0.1.1")])
def test_who_says_little_and_often_locks_nobody_out(
    impatient: Served, sites: int, victim: str, data: bytes
) -> None:
    """Every place there is, or that one address may have; `victim` comes from there too."""
    with ExitStack() as stack:
        strangers = [
            stack.enter_context(Stranger(impatient, f"127.0.1.{number + 1}"))
            for number in range(sites)
        ]
        for stranger in strangers:
            stranger.send(data, connections=250)
        stop = threading.Event()

        def say() -> None:
            while not stop.wait(0.3):
                for stranger in strangers:
                    stranger.say(data)

        talker = threading.Thread(target=say)
        talker.start()
        stack.callback(talker.join)
        stack.callback(stop.set)
        for _ in range(3):
            select.select([], [], [], 0.7)  # they have said something since they came
            with within(5):
                target = ("127.0.0.1", impatient.port)
                with socket.create_connection(target, patient(5), (victim, 0)) as client:
                    client.sendall(b"GET /healthz HTTP/1.1\r\nHost: nmk\r\n\r\n")
                    assert client.recv(12)[9:] == b"200"


@pytest.mark.parametrize(
    "head",
    [
        b"GET http://[ HTTP/1.1\r\n\r\n",
        POST + b"Content-Length: " + b"9" * 5000 + b"\r\n\r\n",
    ],
    ids=["address", "number"],
)
def test_heads_that_the_libraries_choke_on(impatient: Served, head: bytes) -> None:
    for _ in range(20):
        with socket.create_connection(("127.0.0.1", impatient.port), patient(10)) as client:
            client.sendall(head)
            assert client.recv(12)[9:] == b"400"
    assert "exception" not in impatient.log
    assert "http-trouble" not in impatient.log


def test_what_the_http_library_says_is_said_seldom(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    library = logging.getLogger("waitress")
    for logger in (library, logging.getLogger("nmk")):
        for name in ("handlers", "propagate", "level"):
            monkeypatch.setattr(logger, name, getattr(logger, name))
    start_log("text")
    for number in range(5):
        library.error("uncaptured python exception %s %s", number, "x" * 5000)
    said = capfd.readouterr().err
    assert said.count("http-trouble") == 1
    assert len(said) < 500


def test_urgent_data(impatient: Served) -> None:
    with socket.create_connection(("127.0.0.1", impatient.port), patient(10)) as client:
        client.send(b"!", socket.MSG_OOB)
        poll(lambda: is_cut(client), 5, "end of the connection")
    assert "unhandled" not in impatient.log
