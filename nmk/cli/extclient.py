"""`nmk extclient`. A client's private key is made here, shown once, and goes nowhere else."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from nmk.cli.api import AdminApi, Json, network_option, segment, server_options
from nmk.cli.hub import import_
from nmk.cli.key import is_private
from nmk.cli.nouns import Noun, confirm, dry_run_option, parse_pairs, yes_option
from nmk.cli.output import output_option, say, show
from nmk.core.amounts import show_ago, show_bytes
from nmk.core.parse import parse_key, quote
from nmk.errors import BadInput, NmkError

COLUMNS = {
    "NAME": "name",
    "ADDRESSES": "addresses",
    "GATEWAY": "gateway",
    "STATE": "state",
    "HANDSHAKE": "handshake",
    "ENDPOINT": "endpoint",
    "RECEIVED": "received",
    "SENT": "sent",
    "EXPIRES": "expires_at",
    "CONFIG": "stale",
}


@click.group(cls=Noun)
def extclient() -> None:
    """Phones and other devices with a plain WireGuard app, let in by an ingress gateway."""


extclient.add_command(import_)


@dataclass(frozen=True, slots=True)
class Handing:
    """Where a new config goes: to files, else to standard output."""

    qr_file: Path | None
    config_file: Path | None
    public_key: str | None

    @property
    def to_files(self) -> bool:
        """Whether it goes to files."""
        return bool(self.qr_file or self.config_file)


def issue_options(command: Any) -> Any:  # noqa: ANN401  # decorator
    """What `create` and `rotate` share: where the key is from, where the config goes."""
    for option in (
        click.option(
            "--public-key",
            metavar="KEY",
            help="Of a key made on the device; else one is made here.",
        ),
        click.option("--qr-file", metavar="FILE", help="Write a QR code: .png or .svg."),
        click.option("--config-file", metavar="FILE", help="Write the config, for its owner only."),
        dry_run_option,
        output_option,
        network_option,
        server_options,
    ):
        command = option(command)
    return command


@extclient.command(epilog="Example: nmk extclient create phone")
@click.argument("name")
@click.option("--gateway", metavar="NODE", help="Its ingress gateway; not needed with just one.")
@click.option("--address", help="Its address in the network; else a free one.")
@click.option("--expires", metavar="TIME", default="never", show_default=True, help="24h, 7d...")
@click.option("--full-tunnel", is_flag=True, help="All its traffic goes through the gateway.")
@issue_options
def create(
    api: AdminApi,
    network: str | None,
    name: str,
    full_tunnel: bool,
    dry_run: bool,
    output: str,
    **given: str | None,
) -> None:
    """Let a device in, and print its config, on a terminal as a QR code as well.

    The private key is made here and is in that config alone: it is never sent and never stored.
    """
    asked = {key: given.pop(key) for key in ("gateway", "address", "expires")}
    handing = _parse_handing(output, **given)
    body = {"name": name, "full_tunnel": full_tunnel, **asked}
    path = f"/networks/{segment(api.network(network))}/extclients"

    def ask(public_key: str) -> Any:  # noqa: ANN401  # JSON
        return api.call("POST", path, body | {"public_key": public_key}, dry_run=dry_run)

    _issue(ask, handing, output, dry_run=dry_run, what="create")


@extclient.command(epilog="Example: nmk extclient rotate phone --qr-file phone.png")
@click.argument("name")
@issue_options
def rotate(
    api: AdminApi,
    network: str | None,
    name: str,
    dry_run: bool,
    output: str,
    **files: str | None,
) -> None:
    """Issue a new key and a config that fits; the old ones are void at the next check-in."""
    path = f"/networks/{segment(api.network(network))}/extclients/{segment(name)}/rotate"

    def ask(public_key: str) -> Any:  # noqa: ANN401  # JSON
        return api.call("POST", path, {"public_key": public_key}, dry_run=dry_run)

    _issue(ask, _parse_handing(output, **files), output, dry_run=dry_run, what="rotate")


@extclient.command("list", epilog="Example: nmk extclient list -o json | jq -r '.[].name'")
@network_option
@output_option
@server_options
def list_(api: AdminApi, network: str | None, output: str) -> None:
    """List a network's ext clients.

    CONFIG is stale where what was issued no longer fits the network: rotate issues anew.
    """
    clients = api.call("GET", f"/networks/{segment(api.network(network))}/extclients")
    show([_row(c) for c in clients] if output == "table" else clients, output, COLUMNS, "name")
    for client in clients:
        for reason in client["stale"]:
            say(f"{client['name']} is stale: {reason}")


@extclient.command("show", epilog="Example: nmk extclient show phone")
@click.argument("name")
@network_option
@output_option
@server_options
def show_(api: AdminApi, network: str | None, name: str, output: str) -> None:
    """Show an ext client. Its private key is not known here."""
    show(api.call("GET", _path(api, network, name)), output, COLUMNS, "name")


@extclient.command(
    "set",
    epilog="Example: nmk extclient set phone expires=7d",
    help="""
Change an ext client; its gateway follows at its next check-in.

\b
  name     its name, a DNS label
  address  its address in the network, IPv4 or IPv6
  gateway  the node that lets it in
  expires  24h, 7d, never; one that has expired is let in again
""",
)
@click.argument("name")
@click.argument("settings", metavar="KEY=VALUE...", nargs=-1, required=True)
@network_option
@dry_run_option
@output_option
@server_options
def set_(
    api: AdminApi,
    network: str | None,
    name: str,
    settings: tuple[str, ...],
    dry_run: bool,
    output: str,
) -> None:
    """Change an ext client."""
    path = _path(api, network, name)
    seen = api.call("GET", path)
    body = parse_pairs(settings)
    changed = api.call("PATCH", path, body, revision=seen["revision"], dry_run=dry_run)
    show(changed, output, COLUMNS, "name")
    for reason in changed["stale"]:
        say(f"its config is stale: {reason}\n  next: nmk extclient rotate {changed['name']}")


def _switch(verb: str, summary: str) -> None:
    @extclient.command(verb, epilog=f"Example: nmk extclient {verb} phone", help=summary)
    @click.argument("name")
    @network_option
    @dry_run_option
    @output_option
    @server_options
    def switch(api: AdminApi, network: str | None, name: str, dry_run: bool, output: str) -> None:
        path = f"{_path(api, network, name)}/{verb}"
        show(api.call("POST", path, dry_run=dry_run), output, COLUMNS, "name")


_switch("enable", "Let an ext client in again.")
_switch("disable", "Keep an ext client out, until it is enabled.")


@extclient.command(epilog="Example: nmk extclient delete old-phone --yes")
@click.argument("name")
@network_option
@yes_option
@dry_run_option
@server_options
def delete(api: AdminApi, network: str | None, name: str, yes: bool, dry_run: bool) -> None:
    """Delete an ext client, for good."""
    path = _path(api, network, name)
    seen = api.call("GET", path)
    if dry_run:
        say(f"would delete ext client {name}")
    else:
        confirm(f"Delete ext client {name}?", yes=yes)
    api.call("DELETE", path, revision=seen["revision"], dry_run=dry_run)


def _issue(
    ask: Callable[[str], Any], handing: Handing, output: str, *, dry_run: bool, what: str
) -> None:
    """Make a key, have it taken in, and hand out the config."""
    from nmk.core.client_config import parse_client_config, render_client_config
    from nmk.system.keys import generate_private_key, public_key

    private_key = None if handing.public_key else generate_private_key()
    made = ask(handing.public_key or public_key(private_key or ""))
    parsed = parse_client_config(made["config"])
    if dry_run:
        show({k: v for k, v in made.items() if k != "config"}, output, COLUMNS, "name")
        say(f"would {what} ext client {made['name']}")
        return
    config = render_client_config(parsed, private_key)
    _hand_out(made, config, handing, output)
    addresses = ", ".join(made["addresses"])
    say(f"ext client {made['name']} has {addresses}, by {made['gateway']} at {parsed.endpoint}")
    host = parsed.endpoint.rpartition(":")[0].strip("[]")
    if is_private(host):
        say(
            f"note: {host} is reached in its own LAN only; for devices elsewhere first:\n"
            f"  nmk gateway add {made['gateway']} ingress --endpoint HOST:PORT"
        )
    if made["state"] != "enabled":
        say(f"note: it is {made['state']}, and not let in: nmk extclient enable {made['name']}")
    if private_key:
        say(
            "its private key is in that config alone; to replace one that was lost: "
            f"nmk extclient rotate {made['name']}"
        )


def _hand_out(made: Json, config: str, handing: Handing, output: str) -> None:
    from nmk.cli.qr import render_terminal, write_qr
    from nmk.files import write_private

    try:
        if handing.config_file:
            write_private(handing.config_file, config.encode())
        if handing.qr_file:
            write_qr(handing.qr_file, config)
    except (OSError, NmkError) as error:
        reason = error.message if isinstance(error, NmkError) else str(error)
        raise BadInput(
            f"the ext client is there, and its config could not be written: {reason}",
            f"nmk extclient rotate -n {made['network']} {made['name']}",
        ) from None
    if output == "json":
        click.echo(json.dumps({**made, "config": config}, indent=2, ensure_ascii=False))
    elif output == "name":
        click.echo(made["name"])
    elif not handing.to_files:
        click.echo(config, nl=False)
        if sys.stdout.isatty() and os.environ.get("TERM") != "dumb" and not handing.public_key:
            click.echo("\n" + render_terminal(config), color=True)


def _parse_handing(
    output: str, qr_file: str | None, config_file: str | None, public_key: str | None
) -> Handing:
    """The files, checked before anything is made. Raises BadInput."""
    from nmk.cli.qr import parse_qr_file

    qr_path = None if qr_file is None else parse_qr_file(qr_file)
    config_path = None if config_file is None else Path(config_file)
    if qr_path and public_key:
        raise BadInput("a QR code without the private key is of no use", "leave --qr-file out")
    if qr_path and qr_path == config_path:
        raise BadInput(f"{quote(qr_path)} is named twice", "give the config a file of its own")
    for path in filter(None, (qr_path, config_path)):
        _check_new(path)
    if output == "name" and not (qr_path or config_path or public_key):
        raise BadInput("-o name would lose the private key", "add --config-file FILE")
    return Handing(qr_path, config_path, parse_key(public_key) if public_key else None)


def _check_new(path: Path) -> None:
    """Raises BadInput where the file cannot be made, or is there."""
    try:
        if path.exists():
            raise BadInput(f"{quote(path)} exists", "remove it, or name another file")
        if not path.absolute().parent.is_dir():
            raise BadInput(f"{quote(path)} is in no directory that exists", "mkdir -p it first")
    except OSError as error:
        raise BadInput(f"{quote(path)} cannot be a file: {error.strerror}") from None


def _path(api: AdminApi, network: str | None, name: str) -> str:
    return f"/networks/{segment(api.network(network))}/extclients/{segment(name)}"


def _row(client: Json) -> Json:
    """A client as the table shows it."""
    counts = {k: None if client[k] is None else show_bytes(client[k]) for k in ("received", "sent")}
    return {
        **client,
        **counts,
        "handshake": show_ago(client["handshake"]),
        "stale": "stale" if client["stale"] else "fits",
    }
