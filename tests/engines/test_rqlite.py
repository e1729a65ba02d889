from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from threading import Event, Thread

import pytest

from nmk.core.records import AccessKey
from nmk.errors import StoreUnavailable, StoreUnusable
from nmk.store import rqlite as rqlite_module
from nmk.store.engine import Collision, Statement, Uncertain
from nmk.store.rqlite import RqliteEngine
from tests.engines.changes import Opener, begin, stored, use_key
from tests.engines.starters import Rqlite
from tests.lab.polling import patient

SELECT: Statement = ("SELECT 1", ())


def test_any_member_will_do(rqlite: Rqlite, opened: Opener) -> None:
    stores = [opened(f"rqlite://127.0.0.1:{port}") for port in rqlite.ports]
    begin(stores[0])
    for number, store in enumerate(stores, 1):
        use_key(store)
        # What one member acknowledged, every other one shows.
        assert [stored(other, AccessKey)[0].uses for other in stores] == [number] * 3


def test_the_members_are_tried_in_turn(rqlite: Rqlite, opened: Opener) -> None:
    url = rqlite.url.replace("//", "//127.0.0.1:1,")
    begin(opened(url))
    assert stored(opened(url), AccessKey)


def test_a_killed_leader_loses_no_commit(rqlite: Rqlite, opened: Opener) -> None:
    store = opened(rqlite.url)
    begin(store)
    under_way, done = Event(), Event()
    acknowledged: list[str] = []

    def write() -> None:
        own = opened(rqlite.url)
        while not done.is_set():
            acknowledged.append(use_key(own))
            under_way.set()

    with ThreadPoolExecutor(2) as pool:
        writers = [pool.submit(write) for _ in range(2)]
        assert under_way.wait(patient(30))
        rqlite.kill(rqlite.leader())
        rqlite.wait()
        before = len(acknowledged)
        use_key(store)
        done.set()
        for writer in writers:
            writer.result(60)
    log = store.log_since("home", 1, 10_000)
    assert len(acknowledged) >= before
    assert set(acknowledged) < {point.commit_id for point in log}
    assert len(log) == len(acknowledged) + 1 == stored(store, AccessKey)[0].uses


def test_a_frozen_leader_is_given_up(rqlite: Rqlite, opened: Opener) -> None:
    leader = rqlite.leader()
    others = [port for port in rqlite.ports if port != leader]
    store = opened("rqlite://" + ",".join(f"127.0.0.1:{p}" for p in [leader, *others]))
    begin(store)
    rqlite.freeze(leader)
    try:
        use_key(store)
        assert stored(store, AccessKey)[0].uses == 1
    finally:
        rqlite.thaw(leader)
    rqlite.wait()
    use_key(store)
    assert stored(store, AccessKey)[0].uses == 2


def test_a_minority_takes_nothing(
    rqlite: Rqlite, monkeypatch: pytest.MonkeyPatch, opened: Opener
) -> None:
    store = opened(rqlite.url)
    begin(store)
    kept, *gone = sorted(rqlite.ports, key=lambda port: port == rqlite.leader())
    for port in gone:
        rqlite.kill(port)
    with monkeypatch.context() as patch:
        patch.setattr(rqlite_module, "PATIENCE_SECONDS", 0.5)
        with pytest.raises(StoreUnavailable):
            store.heads()
        with pytest.raises(StoreUnavailable):
            use_key(store)
    rqlite.heal()
    assert stored(store, AccessKey)[0].uses == 0
    assert kept in rqlite.ports


def test_nobody_there_is_told_at_once(opened: Opener) -> None:
    with pytest.raises(StoreUnavailable, match="refused") as caught:
        opened("rqlite://nmk:secret@127.0.0.1:1,127.0.0.1:2")
    assert "secret" not in caught.value.message


@pytest.mark.parametrize(
    ("status", "reply", "read", "write"),
    [
        (401, "", StoreUnusable, StoreUnusable),
        (404, "<html>", StoreUnusable, StoreUnusable),
        (500, "", StoreUnavailable, Uncertain),
        (200, "<html>", StoreUnavailable, Uncertain),
        (200, "[]", StoreUnavailable, Uncertain),
        (200, '{"results": [{}], "error": "leadership lost"}', StoreUnavailable, Uncertain),
        (200, '{"results": [{"error": "UNIQUE constraint failed: t"}]}', Collision, Collision),
        (200, '{"results": [{"error": "disk is full"}]}', StoreUnavailable, StoreUnavailable),
        (200, '{"results": [{"error": "no such table: t"}]}', StoreUnusable, StoreUnusable),
        (503, "leader not found", StoreUnavailable, StoreUnavailable),
    ],
)
def test_what_replies_mean(
    status: int,
    reply: str,
    read: type[Exception],
    write: type[Exception],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(rqlite_module, "PATIENCE_SECONDS", -1)
    with replying(status, reply) as port:
        engine = RqliteEngine(f"nmk:secret@127.0.0.1:{port}")
        for call, error in (
            (lambda: engine.read(SELECT), read),
            (lambda: engine.write([SELECT]), write),
        ):
            with pytest.raises(error) as caught:
                call()
            assert "secret" not in str(caught.value)


@contextmanager
def replying(status: int, reply: str) -> Iterator[int]:
    """A server that says the same to everybody; its port."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(status)
            self.end_headers()
            self.wfile.write(reply.encode())

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = Thread(target=server.serve_forever, args=[0.01])
        thread.start()
        yield server.server_port
        server.shutdown()
        thread.join()
