"""The admin API's client: over the Unix socket of this host, or over TCP with the admin key."""

from __future__ import annotations

import http.client
import json
import socket
from pathlib import Path
from typing import Any, cast
from urllib.parse import quote as quote_path
from urllib.parse import urlsplit

import click

from nmk.core.parse import quote
from nmk.errors import (
    Ambiguous,
    BadInput,
    BadReply,
    NotFound,
    Unauthorized,
    Unreachable,
    from_code,
)

Json = dict[str, Any]
DATA_DIR = Path("/var/lib/nmk/server")
DEFAULT_SERVER = f"unix://{DATA_DIR}/admin.sock"
_TIMEOUT = 30  # seconds
_LARGEST = 256 * 1024 * 1024  # bytes of a reply


class _UnixConnection(http.client.HTTPConnection):
    """HTTP over a Unix socket."""

    def __init__(self, path: str) -> None:
        super().__init__("localhost", timeout=_TIMEOUT)
        self._path = path

    def connect(self) -> None:
        """Connect to the socket file."""
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(_TIMEOUT)
        self.sock.connect(self._path)


class AdminApi:
    """Calls the controller. Raises the controller's own errors, Unreachable or BadReply."""

    def __init__(self, server: str, api_key: str | None) -> None:
        self.server = server
        self._api_key = api_key

    def call(
        self,
        method: str,
        path: str,
        body: Json | None = None,
        *,
        revision: int | None = None,
        dry_run: bool = False,
    ) -> Any:  # noqa: ANN401  # JSON
        """The reply's JSON; None where there is none. `path` is under /v1."""
        headers = {"Content-Type": "application/json"} if body is not None else {}
        if self._api_key:
            headers["Authorization"] = f"Bearer {self._api_key}"
        if revision is not None:
            headers["If-Match"] = f'"{revision}"'
        target = f"/v1{path}"
        if dry_run:
            target += ("&" if "?" in target else "?") + "dry-run=true"
        content = None if body is None else json.dumps(body)
        status, raw = self._exchange(method, target, content, headers)
        if not raw and status < http.HTTPStatus.BAD_REQUEST:
            return None
        try:
            data = json.loads(raw)
            if status < http.HTTPStatus.BAD_REQUEST:
                return data
            error = from_code(data["code"], str(data["detail"]), str(data["hint"]))
        except (ValueError, KeyError, TypeError):
            raise BadReply(
                f"{self.server} answered {status} and no JSON", "is that nmk's admin API?"
            ) from None
        raise error

    def is_healthy(self) -> bool:
        """Whether the controller answers."""
        try:
            status, _ = self._exchange("GET", "/healthz", None, {})
        except Unreachable:
            return False
        return status == http.HTTPStatus.OK

    def _exchange(
        self, method: str, target: str, content: str | None, headers: dict[str, str]
    ) -> tuple[int, bytes]:
        connection = self._connection()
        try:
            connection.request(method, target, content, headers)
            response = connection.getresponse()
            return response.status, response.read(_LARGEST)
        except PermissionError:
            raise Unreachable(
                f"{self.server} is for root only", "run it again with sudo, or set NMK_SERVER"
            ) from None
        except (OSError, UnicodeError, http.client.HTTPException) as error:
            reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
            raise Unreachable(
                f"no controller at {self.server}: {reason}",
                "start one with `nmk server`, or name another with --server",
            ) from None
        finally:
            connection.close()

    def _connection(self) -> http.client.HTTPConnection:
        parts = urlsplit(self.server)
        if parts.scheme == "unix" and parts.path:
            return _UnixConnection(parts.path)
        try:
            port = parts.port
        except ValueError:
            port = 0
        if parts.scheme not in {"http", "https"} or not parts.hostname or port == 0:
            raise BadInput(
                f"{quote(self.server)} is no controller",
                f"write it like http://127.0.0.1:8081 or {DEFAULT_SERVER}",
            )
        if parts.scheme == "https":
            return http.client.HTTPSConnection(parts.hostname, port, timeout=_TIMEOUT)
        return http.client.HTTPConnection(parts.hostname, port, timeout=_TIMEOUT)

    def network(self, name: str | None) -> str:
        """The network named, or the only one there is. Raises Ambiguous, NotFound."""
        if name is not None:
            return name
        names = [n["name"] for n in self.call("GET", "/networks")]
        if not names:
            raise NotFound("the controller has no network yet", "nmk network create home")
        if len(names) > 1:
            raise Ambiguous(f"there are several networks: {', '.join(names)}")
        return cast(str, names[0])


def parse_api_key(text: str) -> str | None:
    """The admin key in a text, white space around it allowed; None where there is none."""
    key = text.strip()
    if not (key.isascii() and key.isprintable()):
        raise BadInput("NMK_API_KEY is no admin key", Unauthorized.default_hint)
    return key or None


def segment(name: str) -> str:
    """A name as one segment of a path."""
    return quote_path(name, safe="")


def server_options(command: Any) -> Any:  # noqa: ANN401  # decorator
    """`--server` and the admin key from the environment, as the parameter `api`."""

    def make(_ctx: click.Context, _param: click.Parameter, value: str) -> AdminApi:
        import os

        return AdminApi(value, parse_api_key(os.environ.get("NMK_API_KEY", "")))

    return click.option(
        "--server",
        "api",
        envvar="NMK_SERVER",
        default=DEFAULT_SERVER,
        metavar="URL",
        callback=make,
        help="The controller's admin API.  [env: NMK_SERVER, with NMK_API_KEY over TCP]",
    )(command)


def network_option(command: Any) -> Any:  # noqa: ANN401  # decorator
    """`-n NET`, as the parameter `network`."""
    return click.option(
        "-n",
        "--network",
        envvar="NMK_NETWORK",
        metavar="NET",
        help="The network; not needed where there is just one.  [env: NMK_NETWORK]",
    )(command)
