"""The admin API: JSON over HTTP, each route one call of a use case.

`ETag` is the revision that wrote the object; with `If-Match` a change made on an older one is
refused (RFC 9110, 13.1.1).
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Callable, Iterable
from hmac import compare_digest
from typing import Any

from flask import Flask, Response, g, request
from werkzeug.exceptions import HTTPException

from nmk.core.parse import quote
from nmk.core.text import parse_json
from nmk.errors import BadInput, NmkError, NotFound, TooLarge, Unauthorized
from nmk.server.admin import Admin
from nmk.server.crowd import MAX_HELD
from nmk.server.edits import Edit, Json
from nmk.server.ext_clients import ExtClients
from nmk.server.gateways import Gateways
from nmk.server.problem import CONTENT_TYPE as PROBLEM
from nmk.server.problem import AnswerTooLong, MethodNotAllowed, problem

MAX_BODY = 1024 * 1024  # bytes
MAX_ANSWER = MAX_HELD * 3 // 4  # bytes; who holds more is cut off
Wsgi = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]
_REVISION = re.compile(r'"([0-9]{1,18})"', re.ASCII)
_LOCAL_ACTOR = "nmk.actor"
_QUERY = {"remove_gateway": ("range",), "list_keys": ("all",)}  # what may stand in it, by the route
_CHANGING = {"POST", "PATCH", "DELETE"}


def make_admin_api(
    admin: Admin, gateways: Gateways, ext_clients: ExtClients, admin_key: str
) -> Flask:
    """The Flask application. Over TCP it wants `Authorization: Bearer ADMIN_KEY`."""
    app = Flask("nmk", static_folder=None)
    app.config["MAX_CONTENT_LENGTH"] = MAX_BODY

    @app.before_request
    def authorize() -> None:
        g.actor = request.environ.get(_LOCAL_ACTOR)
        if g.actor is None and request.path != "/healthz":
            given = request.headers.get("Authorization", "").removeprefix("Bearer ").strip()
            if not given:
                raise Unauthorized("the admin API needs the admin key")
            if not compare_digest(given.encode(), admin_key.encode()):
                raise Unauthorized("the key that was given is not the admin key of this controller")
            g.actor = "admin-key"

    @app.before_request
    def check_query() -> None:
        known = {*_QUERY.get(request.endpoint or "", ())}
        if request.method in _CHANGING:
            known.add("dry-run")
        for name in request.args:
            if name not in known:
                raise BadInput(f"{quote(name)} means nothing in this request's query")

    _add_errors(app)
    _add_networks(app, admin)
    _add_keys(app, admin)
    _add_nodes(app, admin)
    _add_gateways(app, gateways)
    _add_ext_clients(app, ext_clients)
    app.add_url_rule("/v1/status", "status", lambda: _json(admin.status()))
    app.add_url_rule("/healthz", "healthz", lambda: Response("ok\n", mimetype="text/plain"))
    return app


def as_local(app: Wsgi, actor: str) -> Wsgi:
    """The application for a listener that only `actor` can reach: it needs no key."""

    def local(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        return app({**environ, _LOCAL_ACTOR: actor}, start_response)

    return local


def _add_errors(app: Flask) -> None:
    @app.errorhandler(NmkError)
    def own(error: NmkError) -> Response:
        status, body = problem(error)
        return Response(body, status, mimetype=PROBLEM)

    @app.errorhandler(HTTPException)
    def routing(error: HTTPException) -> Response:
        if error.code == 413:
            return own(TooLarge(f"a request of more than {MAX_BODY} bytes"))
        if error.code == 404:
            return own(NotFound(f"there is nothing at {quote(request.path)}", "GET /v1/networks"))
        if error.code == 405:
            return own(MethodNotAllowed(f"{quote(request.path)} takes no {request.method}"))
        return own(BadInput(f"{request.method} {quote(request.path)}: {error.name}"))

    @app.errorhandler(Exception)
    def mistake(error: Exception) -> Response:
        logging.getLogger("nmk").error("internal-error", exc_info=error)
        return own(NmkError("internal error; see the controller's log"))


def _add_networks(app: Flask, admin: Admin) -> None:
    @app.get("/v1/networks")
    def list_networks() -> Response:
        return _json(admin.list_networks())

    @app.post("/v1/networks")
    def create_network() -> Response:
        return _object(admin.create_network(_edit(), _body()), 201)

    @app.get("/v1/networks/<name>")
    def show_network(name: str) -> Response:
        return _object(admin.show_network(name))

    @app.patch("/v1/networks/<name>")
    def set_network(name: str) -> Response:
        return _object(admin.set_network(_edit(), name, _body()))

    @app.delete("/v1/networks/<name>")
    def delete_network(name: str) -> Response:
        admin.delete_network(_edit(), name)
        return Response(status=204)


def _add_keys(app: Flask, admin: Admin) -> None:
    @app.get("/v1/networks/<network>/keys")
    def list_keys(network: str) -> Response:
        return _json(admin.list_keys(network, revoked=_flag("all")))

    @app.post("/v1/networks/<network>/keys")
    def create_key(network: str) -> Response:
        return _object(admin.create_key(_edit(), network, _body()), 201)

    @app.get("/v1/networks/<network>/keys/<key_id>")
    def show_key(network: str, key_id: str) -> Response:
        return _object(admin.show_key(network, key_id))

    @app.delete("/v1/networks/<network>/keys/<key_id>")
    def delete_key(network: str, key_id: str) -> Response:
        admin.delete_key(_edit(), network, key_id)
        return Response(status=204)


def _add_nodes(app: Flask, admin: Admin) -> None:
    @app.get("/v1/networks/<network>/nodes")
    def list_nodes(network: str) -> Response:
        return _json(admin.list_nodes(network))

    @app.get("/v1/networks/<network>/nodes/<name>")
    def show_node(network: str, name: str) -> Response:
        return _object(admin.show_node(network, name))

    @app.patch("/v1/networks/<network>/nodes/<name>")
    def set_node(network: str, name: str) -> Response:
        return _object(admin.set_node(_edit(), network, name, _body()))

    @app.delete("/v1/networks/<network>/nodes/<name>")
    def delete_node(network: str, name: str) -> Response:
        admin.delete_node(_edit(), network, name)
        return Response(status=204)


def _add_gateways(app: Flask, gateways: Gateways) -> None:
    @app.get("/v1/networks/<network>/gateways")
    def list_gateways(network: str) -> Response:
        return _json(gateways.list_gateways(network))

    @app.post("/v1/networks/<network>/gateways")
    def add_gateway(network: str) -> Response:
        return _object(gateways.add_gateway(_edit(), network, _body()), 201)

    @app.delete("/v1/networks/<network>/gateways/<node>/<role>")
    def remove_gateway(network: str, node: str, role: str) -> Response:
        gateways.remove_gateway(_edit(), network, node, role, request.args.getlist("range"))
        return Response(status=204)


def _add_ext_clients(app: Flask, clients: ExtClients) -> None:
    @app.get("/v1/networks/<network>/extclients")
    def list_clients(network: str) -> Response:
        return _json(clients.list_clients(network))

    @app.post("/v1/networks/<network>/extclients")
    def create_client(network: str) -> Response:
        return _object(clients.create_client(_edit(), network, _body()), 201)

    @app.post("/v1/networks/<network>/hubs")
    def take_over_hub(network: str) -> Response:
        return _object(clients.take_over_hub(_edit(), network, _body()), 201)

    @app.get("/v1/networks/<network>/extclients/<name>")
    def show_client(network: str, name: str) -> Response:
        return _object(clients.show_client(network, name))

    @app.patch("/v1/networks/<network>/extclients/<name>")
    def set_client(network: str, name: str) -> Response:
        return _object(clients.set_client(_edit(), network, name, _body()))

    @app.post("/v1/networks/<network>/extclients/<name>/rotate")
    def rotate_client(network: str, name: str) -> Response:
        return _object(clients.rotate_client(_edit(), network, name, _body()))

    @app.post("/v1/networks/<network>/extclients/<name>/enable")
    def enable_client(network: str, name: str) -> Response:
        return _object(clients.switch_client(_edit(), network, name, enabled=True))

    @app.post("/v1/networks/<network>/extclients/<name>/disable")
    def disable_client(network: str, name: str) -> Response:
        return _object(clients.switch_client(_edit(), network, name, enabled=False))

    @app.delete("/v1/networks/<network>/extclients/<name>")
    def delete_client(network: str, name: str) -> Response:
        clients.delete_client(_edit(), network, name)
        return Response(status=204)


def _body() -> Json:
    body = parse_json(request.get_data(), "the request's body")
    if not isinstance(body, dict):
        raise BadInput("the request's body is no JSON object")
    return body


def _edit() -> Edit:
    """The request's actor, `If-Match` and `?dry-run=true`."""
    return Edit(g.actor, _if_match(), _flag("dry-run"))


def _flag(name: str) -> bool:
    """A flag in the query, `true` or `false`."""
    text = request.args.get(name, "false")
    if text not in {"true", "false"}:
        raise BadInput(f"{quote(text)} cannot be {name}", "use true or false")
    return text == "true"


def _if_match() -> int | None:
    text = request.headers.get("If-Match")
    if text is None or text == "*":
        return None
    found = _REVISION.fullmatch(text)
    if not found:
        raise BadInput(f"{quote(text)} cannot be If-Match", 'write it like "17"')
    return int(found[1])


def _json(value: Json | list[Json], status: int = 200) -> Response:
    text = json.dumps(value)  # all ASCII
    if len(text) >= MAX_ANSWER:
        raise AnswerTooLong(f"the answer has {len(text)} bytes")
    return Response(text + "\n", status, mimetype="application/json")


def _object(value: Json, status: int = 200) -> Response:
    response = _json(value, status)
    response.headers["ETag"] = f'"{value["revision"]}"'
    return response
