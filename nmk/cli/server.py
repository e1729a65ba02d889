"""`nmk server`: run the controller, wait for it."""

from __future__ import annotations

import time
from difflib import get_close_matches
from functools import partial
from ipaddress import ip_address
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from nmk.agent.own_controller import DATA_DIR
from nmk.agent.places import config_directory
from nmk.cli.api import AdminApi, server_options
from nmk.cli.nouns import Commands
from nmk.cli.output import report_option, say, show
from nmk.cli.source import SETTINGS, naming_source
from nmk.cli.where import away_hint
from nmk.core.parse import parse_seconds, quote
from nmk.errors import BadInput, Unreachable
from nmk.files import read_toml
from nmk.system.notify import notify
from nmk.unread import never_wait

if TYPE_CHECKING:
    from nmk.server.run import ServerOptions

_POLL_SECONDS = 0.05
_LONGEST_WAIT = 86400  # seconds


class _Configured(Commands):
    """A group whose options may stand in /etc/nmk/server.toml as well."""

    def make_context(
        self,
        info_name: str | None,
        args: list[str],
        parent: click.Context | None = None,
        **extra: Any,  # noqa: ANN401  # click's own
    ) -> click.Context:
        """The context with the file's values as defaults. Raises BadInput that names the file."""
        path = config_directory() / "server.toml"
        names = {_file_name(p): p for p in self.params if isinstance(p, click.Option)}
        found: dict[str | None, object] = {}
        for key, value in read_toml(path).items():
            if key not in names:
                close = get_close_matches(key, [name for name in names if name], n=1)
                hint = f"write {close[0]}" if close else "nmk server --help"
                raise BadInput(f"{path}: {quote(key)} is no option of nmk server", hint)
            many = names[key].multiple
            texts = value if many and isinstance(value, list) else [value]
            if not all(isinstance(text, str) and "\0" not in text for text in texts):
                raise BadInput(f"{path}: {quote(value)} cannot be {key}", "write a text in quotes")
            found[names[key].name] = texts if many else value
        context = super().make_context(info_name, args, parent, default_map=found, **extra)
        context.meta[SETTINGS] = path
        return context


def _file_name(parameter: click.Parameter) -> str:
    return max(parameter.opts, key=len).lstrip("-")


@click.group(
    cls=_Configured,
    invoke_without_command=True,
    epilog="Example: nmk server --public-url http://198.51.100.7:50051",
)
@click.option(
    "--data-dir",
    type=click.Path(readable=False, path_type=Path),
    default=DATA_DIR,
    show_default=True,
    envvar="NMK_DATA_DIR",
    help="Keys, database and socket.",
)
@click.option(
    "--db", metavar="URL", envvar="NMK_DB", help="Database.  [default: sqlite://DATA_DIR/nmk.db]"
)
@click.option(
    "--listen",
    default="*:50051",
    show_default=True,
    envvar="NMK_LISTEN",
    help="Node API: every agent must reach it.",
)
@click.option(
    "--admin-listen",
    default="127.0.0.1:8081",
    show_default=True,
    envvar="NMK_ADMIN_LISTEN",
    help="Admin API; off: none.",
)
@click.option(
    "--public-url",
    "public_urls",
    multiple=True,
    envvar="NMK_PUBLIC_URL",
    metavar="URL",
    help="Node API as machines reach it, for tokens; may be repeated.  [default: all addresses]",
)
@click.option(
    "--log-format",
    metavar="[text|json]",
    default="text",
    show_default=True,
    envvar="NMK_LOG_FORMAT",
)
@click.pass_context
def server(
    ctx: click.Context,
    data_dir: Path,
    db: str | None,
    listen: str,
    admin_listen: str,
    public_urls: tuple[str, ...],
    log_format: str,
) -> None:
    """Run the controller in the foreground, until SIGTERM or Ctrl-C.

    The first start makes its key and its database. Every option can stand in
    /etc/nmk/server.toml (data-dir = "...") or the environment (NMK_DATA_DIR).
    """
    if ctx.invoked_subcommand is not None:
        return
    from nmk.server.log import tell_left_out
    from nmk.server.run import CHECKS, ServerOptions, run_server

    options = ServerOptions(data_dir, db, listen, admin_listen, public_urls, log_format)
    for name, check in CHECKS.items():
        with naming_source(name):
            check(options)
    never_wait(partial(tell_left_out, log_format))
    run_server(options, _own_addresses, lambda new: _introduce(options, new=new))


def _own_addresses() -> list[str]:
    from nmk.system.facts import own_addresses

    return [a.split("/")[0] for a in own_addresses()]


def _introduce(options: ServerOptions, *, new: bool) -> None:
    """Tell systemd that we serve, and who looks at the terminal what comes next."""
    notify("READY=1", "STATUS=serving agents")
    has_admin = options.admin_listen != "off"
    if has_admin and not _is_for_this_host(options.admin_listen):
        say(
            f"note: the admin API on {options.admin_listen} is plain HTTP for other machines too: "
            "who reads along has the admin key"
        )
    if options.log_format == "json":
        return
    admin_api = f"on {options.admin_listen}" if has_admin else "on the socket alone"
    say(f"nmk controller: node API on {options.listen}, admin API {admin_api}")
    port = options.listen.rpartition(":")[2]
    if new:
        say(
            f"made a new key and database in {options.data_dir}",
            f"  open TCP port {port}: every machine must reach it",
            "  next, in another terminal: nmk network create home",
        )


def _is_for_this_host(listen: str) -> bool:
    host = listen.rpartition(":")[0].strip("[]")
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


@server.command(epilog="Example: nmk server & nmk server wait && nmk network create home")
@click.option(
    "--timeout",
    metavar="SECONDS",
    default="30",
    show_default=True,
    help=f"At most {_LONGEST_WAIT}.",
)
@server_options
def wait(api: AdminApi, timeout: str) -> None:
    """Wait until the controller answers; exit code 75 when it does not in time."""
    seconds = parse_seconds(timeout, _LONGEST_WAIT, "timeout")
    deadline = time.monotonic() + seconds
    while not api.is_healthy():
        if time.monotonic() >= deadline:
            raise Unreachable(
                f"no controller answered at {api.server} within {seconds:g} s",
                away_hint(api.server),
            )
        time.sleep(_POLL_SECONDS)


@server.command(epilog="Example: nmk server status -o json")
@report_option
@server_options
def status(api: AdminApi, output: str) -> None:
    """Show what the controller is and serves."""
    show(api.call("GET", "/status"), output, {}, "version")
