"""A real controller in this process, and what may answer in the place of one."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from socketserver import StreamRequestHandler, TCPServer
from wsgiref.simple_server import WSGIRequestHandler, make_server

from nmk.server.admin import Admin
from nmk.server.agents import Agents
from nmk.server.controller import Controller
from nmk.server.downloads import Downloads
from nmk.server.edits import Edit
from nmk.server.node_api import NodeApi as NodeApiServer
from nmk.store.engine import open_engine
from nmk.store.store import Store
from nmk.wire.envelope import Identity
from nmk.wire.token import Token, parse_token


class RealController:
    """The controller's own code behind its node API, on a port of the loopback address."""

    def __init__(self, directory: Path) -> None:
        self.store = Store(open_engine(f"sqlite://{directory / 'nmk.db'}"))
        self.core = Controller(self.store, Identity.generate())
        self.admin = Admin(self.core, lambda: (self.url,), None)
        self.url = ""
        self.edit = Edit("test")
        self.requests: list[str] = []
        self.admin.create_network(self.edit, {"name": "home", "cidrs": ["10.77.0.0/24"]})

    def token(self) -> Token:
        """A new key's token."""
        made = self.admin.create_key(self.edit, "home", {"uses": 1})
        return parse_token(made["token"])

    @contextmanager
    def serving(self) -> Iterator[RealController]:
        """Answer requests until the end of the block."""

        class Quiet(WSGIRequestHandler):
            def log_request(this, *_: object) -> None:  # noqa: N805
                self.requests.append(this.path)

        app = NodeApiServer(Agents(self.core), Downloads())
        with make_server("127.0.0.1", 0, app, handler_class=Quiet) as server:
            self.url = f"http://127.0.0.1:{server.server_port}"
            with _thread(server):
                yield self
        self.store.close()


@contextmanager
def answering(answer: bytes | Callable[[StreamRequestHandler], None]) -> Iterator[str]:
    """The URL of a TCP server that reads a request's head and answers with these bytes."""

    class Handler(StreamRequestHandler):
        def handle(self) -> None:
            length = 0
            while (line := self.rfile.readline()) not in {b"\r\n", b""}:
                name, _, value = line.partition(b":")
                if name.lower() == b"content-length":
                    length = int(value)
            self.rfile.read(length)
            if callable(answer):
                answer(self)
            else:
                self.wfile.write(answer)

    with TCPServer(("127.0.0.1", 0), Handler) as server, _thread(server):
        yield f"http://127.0.0.1:{server.server_address[1]}"


def http(status: str, body: bytes, *headers: str) -> bytes:
    """A whole HTTP response."""
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", *headers, "", ""]
    return "\r\n".join(lines).encode() + body


@contextmanager
def _thread(server: TCPServer) -> Iterator[None]:
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        thread.join()
