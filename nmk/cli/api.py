"""The admin API's client: over the Unix socket of this host, or over TCP with the admin key."""

from __future__ import annotations

import http.client
import json
import socket
from collections.abc import Callable, Mapping
from typing import Any, NoReturn, cast
from urllib.parse import quote as quote_path
from urllib.parse import urlsplit

import click

from nmk.cli.output import check_output, quiet_option
from nmk.cli.source import naming_source
from nmk.cli.where import DEFAULT_SERVER, away_hint, own_server
from nmk.core.nesting import read_json
from nmk.core.parse import quote
from nmk.core.text import texts
from nmk.errors import (
    Ambiguous,
    BadInput,
    BadReply,
    NotFound,
    NotRoot,
    TooLarge,
    Unauthorized,
    Unreachable,
    from_code,
)
from nmk.tools import root_hint

Json = dict[str, Any]
_NOTHING = object()  # a reply without content
_TIMEOUT = 30  # seconds
_LARGEST = 256 * 1024 * 1024  # bytes of a reply
_SMALL = 64 * 1024  # bytes of a request that no controller refuses for its size


class _Answer(Json):
    """An object of an answer. What is missing of it makes that a bad one."""

    def __init__(self, fields: Json, bad_reply: Callable[[str], BadReply]) -> None:
        super().__init__(fields)
        self._bad_reply = bad_reply

    def __or__(self, other: Mapping[str, Any]) -> _Answer:  # type: ignore[override]
        """With other fields in the place of some, and still an answer."""
        return _Answer({**self, **other}, self._bad_reply)

    def __missing__(self, name: str) -> NoReturn:
        raise self._bad_reply(f"an object without {quote(name)}")


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
    ) -> Json:
        """The object that is answered. `path` is under /v1.

        Nothing is changed where the answer could not be printed.
        """
        if method != "GET":
            check_output()
        found = self._ask(method, path, body, revision, dry_run=dry_run)
        if not isinstance(found, dict):
            raise self._bad_reply("no object where there should be one")
        return found

    def call_list(self, path: str) -> list[Json]:
        """The objects that are there."""
        found = self._ask("GET", path)
        if not isinstance(found, list) or not all(isinstance(item, dict) for item in found):
            raise self._bad_reply("no list of objects where there should be one")
        return found

    def delete(self, path: str, *, revision: int | None = None, dry_run: bool = False) -> None:
        """Have something deleted."""
        if self._ask("DELETE", path, None, revision, dry_run=dry_run) is not _NOTHING:
            raise self._bad_reply("something where there should be nothing")

    def _ask(
        self,
        method: str,
        path: str,
        body: Json | None = None,
        revision: int | None = None,
        *,
        dry_run: bool = False,
    ) -> object:
        """The answer's JSON; _NOTHING where it has no content, and says so."""
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
        if status == http.HTTPStatus.NO_CONTENT:
            return _NOTHING
        if status == http.HTTPStatus.REQUEST_ENTITY_TOO_LARGE:
            raise _too_large(self.server, content)
        try:
            data = read_json(raw, self._answer)
            "".join(texts(data)).encode()  # all of it can be shown
            if http.HTTPStatus.OK <= status < http.HTTPStatus.MULTIPLE_CHOICES:
                return cast(object, data)
            error = from_code(data["code"], str(data["detail"]), str(data["hint"]))
        except (ValueError, TypeError):
            raise self._bad_reply(f"{status} and no JSON of ours") from None
        raise error

    def _answer(self, fields: Json) -> Json:
        return _Answer(fields, self._bad_reply)

    def _bad_reply(self, what: str) -> BadReply:
        return BadReply(f"{self.server} answered {what}", "is that nmk's admin API?")

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
        cut_short = False
        try:
            connection.connect()
            try:
                connection.request(method, target, content, headers)
            except (BrokenPipeError, ConnectionResetError):
                cut_short = True  # maybe with an answer that says why
            response = connection.getresponse()
            return response.status, response.read(_LARGEST)
        except (OSError, UnicodeError, http.client.HTTPException) as error:
            if isinstance(error, PermissionError) and isinstance(connection, _UnixConnection):
                raise NotRoot(
                    f"{self.server} is for root only", f"{root_hint()}, or set NMK_SERVER"
                ) from None
            if cut_short and len(content or "") > _SMALL:
                raise _too_large(self.server, content) from None
            reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
            raise Unreachable(
                f"no controller at {self.server}: {reason}",
                self._plain_hint(error) or away_hint(self.server),
            ) from None
        finally:
            connection.close()

    def _plain_hint(self, error: Exception) -> str | None:
        """Where something answers, but no TLS: it waits for the end of what it takes for HTTP."""
        is_silent = isinstance(error, TimeoutError) or type(error).__name__.startswith("SSL")
        if not (self.server.startswith("https:") and is_silent):
            return None
        plain = self.server.replace("https", "http", 1)
        return f"the admin API itself speaks plain HTTP: --server {plain}"

    def _connection(self) -> http.client.HTTPConnection:
        with naming_source("api"):
            return self._connection_of()

    def _connection_of(self) -> http.client.HTTPConnection:
        try:
            parts = urlsplit(self.server)
            port = parts.port
        except ValueError:
            parts, port = urlsplit(""), None
        if parts.scheme == "unix" and parts.path:
            return _UnixConnection(self.server.removeprefix("unix://"))
        if parts.scheme not in {"http", "https"} or not parts.hostname or port == 0:
            raise BadInput(
                f"{quote(self.server)} is no controller",
                f"write it like http://127.0.0.1:8081 or {DEFAULT_SERVER}",
            )
        if parts.scheme == "https":
            return http.client.HTTPSConnection(parts.hostname, port, timeout=_TIMEOUT)
        return http.client.HTTPConnection(parts.hostname, port, timeout=_TIMEOUT)

    def network(self, name: str | None) -> str:
        """The network named, or the only one there is. Raises Ambiguous, BadInput, NotFound."""
        if name is not None:
            with naming_source("network"):
                segment(name)
            return name
        names = [str(n["name"]) for n in self.call_list("/networks")]
        if not names:
            raise NotFound("the controller has no network yet", "nmk network create home")
        if len(names) > 1:
            raise Ambiguous(f"there are several networks: {', '.join(names)}")
        return names[0]


def parse_api_key(text: str) -> str | None:
    """The admin key in a text, white space around it allowed; None where there is none."""
    key = text.strip()
    if not (key.isascii() and key.isprintable()):
        raise BadInput(
            "NMK_API_KEY has characters that are in no admin key", Unauthorized.default_hint
        )
    return key or None


def segment(name: str) -> str:
    """A name as one segment of a path. Raises BadInput where it cannot be one."""
    try:
        found = quote_path(name, safe="")
    except UnicodeEncodeError:
        found = ""
    if not found or "/" in name:
        raise BadInput(f"{quote(name)} cannot be a name", "use a-z, 0-9 and inner hyphens")
    return found


def _too_large(server: str, content: str | None) -> TooLarge:
    return TooLarge(f"{server} takes no request of {len(content or '')} bytes")


def server_options(command: Any) -> Any:  # noqa: ANN401  # decorator
    """`--server` and the admin key from the environment, as the parameter `api`."""

    def make(_ctx: click.Context, _param: click.Parameter, value: str) -> AdminApi:
        import os

        return AdminApi(value, parse_api_key(os.environ.get("NMK_API_KEY", "")))

    command = quiet_option(command)
    return click.option(
        "--server",
        "api",
        envvar="NMK_SERVER",
        default=own_server,
        metavar="URL",
        callback=make,
        help="The controller's admin API; this host's own where none is named.  "
        "[env: NMK_SERVER, with NMK_API_KEY over TCP]",
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
