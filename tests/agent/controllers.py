"""A real controller in this process, and what may answer in the place of one."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path

from nmk.server.admin import Admin
from nmk.server.agents import Agents
from nmk.server.controller import Clock, Controller
from nmk.server.downloads import Downloads
from nmk.server.edits import Edit
from nmk.server.node_api import NodeApi as NodeApiServer
from nmk.store.engine import open_engine
from nmk.store.store import Store
from nmk.wire.envelope import Identity
from nmk.wire.token import Token, parse_token
from tests.hostile.door import Asked, Door, Handler, Reply, http
from tests.lab import Host

__all__ = ["RealController", "answering", "http"]


class RealController(Door):
    """The controller's own code with the network `home`, behind its node API. A context manager."""

    def __init__(
        self,
        directory: Path,
        host: Host | None = None,
        port: int = 0,
        cidrs: tuple[str, ...] = ("10.77.0.0/24",),
        clock: Clock | None = None,
    ) -> None:
        super().__init__(self._honest, host, port)
        self.store = Store(open_engine(f"sqlite://{directory / 'nmk.db'}"))
        self.core = Controller(self.store, Identity.generate(), clock)
        self.agents = Agents(self.core)
        self.admin = Admin(self.core, lambda: (self.url,), None)
        self.edit = Edit("test")
        self._app = NodeApiServer(self.agents, Downloads())
        self.admin.create_network(self.edit, {"name": "home", "cidrs": list(cidrs)})

    def __exit__(self, *_: object) -> None:
        super().__exit__()
        self.store.close()

    @property
    def requests(self) -> list[str]:
        """The paths that were asked for."""
        return [asked.path for asked in self.asked]

    def token(self, uses: int = 1) -> Token:
        """A new key's token."""
        made = self.admin.create_key(self.edit, "home", {"uses": uses})
        return parse_token(made["token"])

    def _honest(self, asked: Asked) -> Reply:
        status = "500"

        def start_response(line: str, _: object) -> None:
            nonlocal status
            status = line

        environ = {
            "PATH_INFO": asked.path,
            "REQUEST_METHOD": asked.method,
            "CONTENT_LENGTH": str(len(asked.body)),
            "REMOTE_ADDR": asked.remote,
            "wsgi.input": BytesIO(asked.body),
        }
        body = b"".join(self._app(environ, start_response))
        return http(status, body)


@contextmanager
def answering(answer: bytes | Callable[[Handler], None]) -> Iterator[str]:
    """The URL of a TCP server that reads a request and answers with these bytes."""
    with Door(lambda _: answer) as door:
        yield door.url
