"""The node API: what agents and new machines ask for, as one plain WSGI callable.

No framework: a check-in costs a few microseconds beside its cryptography, and there are five
routes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from io import BytesIO
from traceback import format_exc
from typing import Any

from nmk.errors import NmkError, NotFound, TooLarge
from nmk.server.agents import Agents
from nmk.server.downloads import Downloads
from nmk.server.log import log_seldom
from nmk.server.problem import CONTENT_TYPE as PROBLEM
from nmk.server.problem import MethodNotAllowed, problem
from nmk.wire.envelope import MAX_REQUEST

Environ = dict[str, Any]  # PEP 3333
StartResponse = Callable[..., object]
_SEALED = "application/octet-stream"


class NodeApi:
    """The WSGI application behind port 50051."""

    def __init__(self, agents: Agents, downloads: Downloads) -> None:
        self._messages = {
            "/v1/checkin": agents.check_in,
            "/v1/join": agents.join,
            "/v1/leave": agents.leave,
        }
        self._downloads = downloads

    def __call__(self, environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        """Answer one request."""
        try:
            content_type, body = self._answer(environ)
            status = "200 OK"
        except NmkError as error:
            content_type = PROBLEM
            status, body = problem(error)
        except Exception as error:  # noqa: BLE001  # which is said in the log
            log_seldom("internal-error", reason=type(error).__name__, traceback=format_exc())
            content_type = PROBLEM
            status, body = problem(NmkError("internal error; see the controller's log"))
        headers = [("Content-Type", content_type), ("Content-Length", str(len(body)))]
        start_response(status, headers)
        if environ["PATH_INFO"] in self._downloads.pages:  # the same bytes for all
            shared: Iterable[bytes] = environ["wsgi.file_wrapper"](BytesIO(body))
            return shared
        return [body]

    def _answer(self, environ: Environ) -> tuple[str, bytes]:
        path, method = environ["PATH_INFO"], environ["REQUEST_METHOD"]
        message = self._messages.get(path)
        if message is not None:
            if method != "POST":
                raise MethodNotAllowed(f"{path} takes POST")
            return _SEALED, message(_body(environ), environ["REMOTE_ADDR"])
        page = self._downloads.pages.get(path)
        if page is None:
            raise NotFound(
                f"there is nothing at {path[:80]!r}",
                "GET /healthz; this port is for agents: the admin API is on port 8081 and on the "
                "socket admin.sock, name it with --server",
            )
        if method not in {"GET", "HEAD"}:
            raise MethodNotAllowed(f"{path} takes GET")
        return page()


def _body(environ: Environ) -> bytes:
    length = int(environ.get("CONTENT_LENGTH") or 0)
    if length > MAX_REQUEST:
        raise TooLarge(f"a message of {length} bytes")
    body: bytes = environ["wsgi.input"].read(length)
    return body
