"""Put the controller together and run it."""

from __future__ import annotations

import os
from base64 import b64encode
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from nmk.core.parse import join_endpoint, quote
from nmk.errors import BadInput
from nmk.server.admin import Admin
from nmk.server.admin_api import MAX_BODY, as_local, make_admin_api
from nmk.server.agents import Agents
from nmk.server.chores import Chores
from nmk.server.controller import Controller
from nmk.server.crowd import LEAST, most_connections
from nmk.server.datadir import DataDir, check_place, close_database
from nmk.server.downloads import Downloads
from nmk.server.ext_clients import ExtClients
from nmk.server.gateways import Gateways
from nmk.server.log import log_event, log_trouble, start_log
from nmk.server.node_api import NodeApi
from nmk.server.serving import Listener, open_tcp, open_unix, parse_listen, serve
from nmk.store.engine import Engine, check_url, open_engine
from nmk.store.store import Store
from nmk.wire.envelope import MAX_REQUEST
from nmk.wire.token import parse_url

POLL_SECONDS = 2  # how soon a change made by another replica is seen
SETTLE_SECONDS = 10  # how long a commit may be in the database's log alone
SAVE_SECONDS = 30  # how much of "last seen" a crash may lose
FORGET_SECONDS = 3600
_SQLITE = "sqlite://"
_NODE_THREADS = 4  # more only contend for Python's one lock
_ADMIN_THREADS = 2
_NODE_SHARES = 4  # by which the places are divided for those of one address
_ROOTS_GRACE = 1  # seconds; many commands at once wait in line, as there are no strangers
_ADMIN_PLACES = 40  # connections at each of the two listeners for admins, who share an address


@dataclass(frozen=True, slots=True)
class ServerOptions:
    """What `nmk server` was told."""

    data_dir: Path
    db: str | None
    listen: str
    admin_listen: str
    public_urls: tuple[str, ...]
    log_format: str


def _check_log_format(options: ServerOptions) -> None:
    if options.log_format not in {"text", "json"}:
        raise BadInput(f"{quote(options.log_format)} cannot be the log format", "use text or json")


def _check_admin_listen(options: ServerOptions) -> None:
    if options.admin_listen != "off":
        parse_listen(options.admin_listen)


def _check_db(options: ServerOptions) -> None:
    if options.db is not None:
        check_url(options.db)


def _check_public_urls(options: ServerOptions) -> None:
    for url in options.public_urls:
        parse_url(url)


CHECKS: Mapping[str, Callable[[ServerOptions], object]] = {
    "log_format": _check_log_format,
    "listen": lambda options: parse_listen(options.listen),
    "admin_listen": _check_admin_listen,
    "public_urls": _check_public_urls,
    "db": _check_db,
    "data_dir": lambda options: check_place(options.data_dir),
}
"""What raises BadInput where an option makes no sense, before anything is looked at or made."""


def run_server(
    options: ServerOptions,
    own_addresses: Callable[[], list[str]],
    started: Callable[[bool], None],
) -> None:
    """Run the controller until a signal stops it.

    `own_addresses` tells the host's addresses, for tokens; `started` is called when it listens,
    with whether this was the first start.
    """
    start_log(options.log_format)
    host, port = parse_listen(options.listen)
    public = tuple(parse_url(url) for url in options.public_urls)

    def urls() -> tuple[str, ...]:
        hosts = own_addresses() if host in {"*", "0.0.0.0", "::"} else [host]  # noqa: S104  # a name
        return public or tuple(f"http://{join_endpoint(h, port)}" for h in hosts or ["127.0.0.1"])

    data = DataDir(options.data_dir)
    os.umask(0o077)  # for the database, and all else from here on
    database = options.db or f"sqlite://{data.database}"
    engine, store = _open_store(database, data)
    controller = Controller(store, data.identity)
    if not data.is_new and not controller.meshes:
        log_trouble("database-empty", reason="its key was used before; it knows of no network")
    downloads = Downloads()
    admin_api = make_admin_api(
        Admin(controller, urls, downloads.script_sha256),
        Gateways(controller),
        ExtClients(controller),
        data.admin_key,
    )
    node_api = NodeApi(Agents(controller), downloads)
    local = as_local(admin_api, "root")
    places = most_connections()
    share = max(LEAST, places // _NODE_SHARES)
    agents = open_tcp(options.listen)
    for_admins = (MAX_BODY, _ADMIN_THREADS, _ADMIN_PLACES, _ADMIN_PLACES)
    listeners = [
        Listener(node_api, agents, MAX_REQUEST, _NODE_THREADS, places, share),
        Listener(local, [open_unix(data.socket)], *for_admins, _ROOTS_GRACE),
    ]
    if options.admin_listen != "off":
        listeners.append(Listener(admin_api, open_tcp(options.admin_listen), *for_admins))
    periods = _periods(controller, has_others=not database.startswith(_SQLITE))
    chores = Chores(engine.settle, {**periods, engine.settle: SETTLE_SECONDS})
    with chores:
        log_event("started", listen=options.listen, admin=options.admin_listen, data=data.path)
        started(data.is_new)
        serve(listeners)
    chores.do(controller.save_presence)
    chores.do(engine.settle)
    store.close()
    data.socket.unlink(missing_ok=True)
    log_event("stopped")


def _open_store(database: str, data: DataDir) -> tuple[Engine, Store]:
    """The database, which belongs to this controller's key. Raises StoreUnusable and the like."""
    if database.startswith(_SQLITE):
        close_database(Path(database.removeprefix(_SQLITE)))
        data.check_database(Path(database.removeprefix(_SQLITE)))
    with data.first_start():
        engine = open_engine(database)
        store = Store(engine)
        store.claim(b64encode(data.identity.public).decode())
    return engine, store


def _periods(controller: Controller, *, has_others: bool) -> dict[Callable[[], None], float]:
    """How often each chore is done. `has_others`: other controllers may be on the database."""
    return {
        **({controller.hear_others: SAVE_SECONDS} if has_others else {}),
        controller.catch_up: POLL_SECONDS,
        controller.save_presence: SAVE_SECONDS,
        controller.forget_changes: FORGET_SECONDS,
    }
