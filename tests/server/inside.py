"""A controller in this process, for what a process of its own hides: its clock and its database.

Its HTTP is the real one.
"""

from __future__ import annotations

import http.client
import json
import threading
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any

from waitress import wasyncore
from waitress.server import create_server

from nmk.server.admin import Admin
from nmk.server.admin_api import Wsgi, as_local, make_admin_api
from nmk.server.agents import Agents
from nmk.server.controller import Clock, Controller
from nmk.server.downloads import Downloads
from nmk.server.ext_clients import ExtClients
from nmk.server.gateways import Gateways
from nmk.server.node_api import NodeApi
from nmk.store.engine import Engine, open_engine
from nmk.store.store import Store
from nmk.wire.envelope import Identity
from tests.core.made import NOW
from tests.lab.polling import patient
from tests.server.process import Answer, call


@contextmanager
def served(app: Wsgi) -> Iterator[int]:
    """The application on a real waitress; its port."""
    channels: dict[int, Any] = {}
    server: Any = create_server(app, map=channels, host="127.0.0.1", port=0, threads=2)
    over = threading.Event()

    def work() -> None:
        while not over.is_set():
            wasyncore.loop(timeout=1, map=channels, use_poll=True, count=1)

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield server.effective_port
    finally:
        over.set()
        server.pull_trigger()
        thread.join()
        server.task_dispatcher.shutdown()
        wasyncore.close_all(channels)


class Time:
    """The time, for as many controllers as look at it; it stands until it is moved."""

    def __init__(self) -> None:
        self.now = float(NOW)

    @property
    def clock(self) -> Clock:
        return Clock(lambda: self.now, lambda: self.now)


class Inside:
    """A controller whose two APIs are at these ports."""

    def __init__(self, controller: Controller, node_port: int, admin_port: int) -> None:
        self.controller = controller
        self._node_port = node_port
        self._admin_port = admin_port

    @property
    def admin_url(self) -> str:
        """What names it to a command."""
        return f"http://127.0.0.1:{self._admin_port}"

    def admin_call(
        self, method: str, path: str, body: object = None, headers: Mapping[str, str] | None = None
    ) -> Answer:
        connection = http.client.HTTPConnection("127.0.0.1", self._admin_port, timeout=patient(30))
        return call(connection, method, path, json.dumps(body).encode(), headers)

    def agent_call(
        self,
        method: str,
        path: str,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        connection = http.client.HTTPConnection("127.0.0.1", self._node_port, timeout=patient(30))
        return call(connection, method, path, body, headers)


@contextmanager
def inside(engine: Engine, time: Time, identity: Identity | None = None) -> Iterator[Inside]:
    """A controller that serves until the end of the block."""
    controller = Controller(Store(engine), identity or Identity.generate(), time.clock)
    admin = Admin(controller, lambda: ("http://127.0.0.1:50051",), None)
    api = make_admin_api(admin, Gateways(controller), ExtClients(controller), "key")
    with ExitStack() as stack:
        node_port = stack.enter_context(served(NodeApi(Agents(controller), Downloads())))
        admin_port = stack.enter_context(served(as_local(api, "test")))
        yield Inside(controller, node_port, admin_port)


@contextmanager
def on_sqlite(directory: Path, time: Time) -> Iterator[Inside]:
    """The same with a database of its own in a directory."""
    with (
        closing(open_engine(f"sqlite://{directory}/nmk.db")) as engine,
        inside(engine, time) as made,
    ):
        yield made
