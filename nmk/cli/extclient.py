"""`nmk extclient`. A client's private key is made here, shown once, and goes nowhere else."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import click

from nmk.cli.api import AdminApi, Json, network_option, segment, server_options
from nmk.cli.handing import Handing, check_fits, drafted, hand_out, made_good, parse_handing
from nmk.cli.hub import import_
from nmk.cli.key import is_private
from nmk.cli.nouns import (
    Noun,
    Setter,
    confirm,
    dry_run_option,
    parse_pairs,
    say_unchanged,
    yes_option,
)
from nmk.cli.output import output_option, report, say, show
from nmk.core.amounts import show_ago, show_bytes
from nmk.errors import BadInput

COLUMNS = {
    "NAME": "name",
    "ADDRESSES": "addresses",
    "ROUTES": "routes",
    "GATEWAY": "gateway",
    "STATE": "state",
    "HANDSHAKE": "handshake",
    "ENDPOINT": "endpoint",
    "RECEIVED": "received",
    "SENT": "sent",
    "EXPIRES": "expires_at",
    "CONFIG": "stale",
}
EXAMPLES = {
    "name": "phone",
    "address": "10.20.0.80",
    "gateway": "NODE",
    "routes": "192.168.60.0/24,192.168.61.0/24",
    "expires": "7d",
}
_COUNTED = 8  # reasons that a list of the API has, before it only says how many more there are
_ROUTER = "it must forward, and hosts there send to it what is for the network"


@click.group(cls=Noun, epilog="Example: nmk extclient create phone")
def extclient() -> None:
    """Phones and other devices with a plain WireGuard app, let in by an ingress gateway."""


extclient.add_command(import_)


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
@click.option("--routes", metavar="CIDR[,CIDR...]", help="It is a router: the ranges behind it.")
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
    asked = {key: given.pop(key) for key in ("gateway", "address", "routes", "expires")}
    if asked["routes"] == "":
        raise BadInput("--routes is empty", "leave it out, where nothing is behind the device")
    handing = parse_handing(output, **given)
    body = {"name": name, "full_tunnel": full_tunnel, **asked}
    path = f"/networks/{segment(api.network(network))}/extclients"

    def ask(public_key: str, *, dry_run: bool) -> Json:
        return api.call("POST", path, body | {"public_key": public_key}, dry_run=dry_run)

    def undo() -> str:
        api.delete(f"{path}/{segment(name)}")
        return f"the ext client {name} was deleted again"

    made = _issue(ask, undo, handing, output, dry_run=dry_run, what="create")
    _say_who_is_in_it(api, made)


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
    handing = parse_handing(output, **files)
    path = f"{_path(api, network, name)}/rotate"

    def ask(public_key: str, *, dry_run: bool) -> Json:
        return api.call("POST", path, {"public_key": public_key}, dry_run=dry_run)

    def undo() -> str:
        return f"the new key of {name} is lost with its config, and the old one is void"

    _issue(ask, undo, handing, output, dry_run=dry_run, what="rotate")


@extclient.command("list", epilog="Example: nmk extclient list -o json | jq -r '.[].name'")
@network_option
@output_option
@server_options
def list_(api: AdminApi, network: str | None, output: str) -> None:
    """List a network's ext clients.

    CONFIG is stale where what was issued no longer fits the network: rotate issues anew.
    """
    clients = api.call_list(f"/networks/{segment(api.network(network))}/extclients")
    show([_row(c) for c in clients] if output == "table" else clients, output, COLUMNS, "name")
    for client in clients:
        if client["stale"]:
            say(f"{client['name']} is stale: {_in_short(client)}")
    if stale := [client for client in clients if client["stale"]]:
        say(_cure(stale[0]["network"], stale[0]["name"] if len(stale) == 1 else "NAME"))


@extclient.command("show", epilog="Example: nmk extclient show phone")
@click.argument("name")
@network_option
@output_option
@server_options
def show_(api: AdminApi, network: str | None, name: str, output: str) -> None:
    """Show an ext client. Its private key is not known here."""
    _show(api.call("GET", _path(api, network, name)), output)


@extclient.command(
    "set",
    cls=Setter,
    known={
        "name": "its name, a DNS label",
        "address": "its address in the network, IPv4 or IPv6",
        "gateway": "the node that lets it in",
        "routes": "the ranges behind it, with commas between; empty: none",
        "expires": "24h, 7d, never; one that has expired is let in again",
    },
    epilog="Example: nmk extclient set phone expires=7d",
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
    """Change an ext client; its gateway follows at its next check-in."""
    path = _path(api, network, name)
    seen = api.call("GET", path)
    body = parse_pairs(settings, EXAMPLES)
    changed = api.call("PATCH", path, body, revision=seen["revision"], dry_run=dry_run)
    _show(changed, output)
    say_unchanged(seen, changed, dry_run=dry_run)
    if "routes" in body:
        _say_who_is_in_it(api, changed)
    if changed["stale"]:
        say(
            *(f"its config is stale: {reason}" for reason in changed["stale"]),
            _cure(changed["network"], changed["name"]),
        )


def _switch(verb: str, summary: str) -> None:
    @extclient.command(verb, epilog=f"Example: nmk extclient {verb} phone", help=summary)
    @click.argument("name")
    @network_option
    @dry_run_option
    @output_option
    @server_options
    def switch(api: AdminApi, network: str | None, name: str, dry_run: bool, output: str) -> None:
        path = _path(api, network, name)
        seen = api.call("GET", path)
        changed = api.call("POST", f"{path}/{verb}", dry_run=dry_run)
        _show(changed, output)
        say_unchanged(seen, changed, dry_run=dry_run)
        if not dry_run and changed["revision"] != seen["revision"]:
            _say_when(changed)


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
    api.delete(path, revision=seen["revision"], dry_run=dry_run)
    if not dry_run:
        report(f"deleted ext client {name}")
        _say_when(seen)


class _Ask(Protocol):
    """What has a public key taken in; the ext client as it is then, with its config."""

    def __call__(self, public_key: str, *, dry_run: bool) -> Json: ...


def _issue(
    ask: _Ask,
    undo: Callable[[], str],
    handing: Handing,
    output: str,
    *,
    dry_run: bool,
    what: str,
) -> Json:
    """Make a key, have it taken in, and hand out the config; the ext client as it is then.

    `undo` makes good that it was taken in for nothing, and says how.
    """
    from nmk.core.client_config import parse_client_config, render_client_config
    from nmk.system.keys import generate_private_key, public_key

    private_key = None if handing.public_key else generate_private_key()
    key = handing.public_key or public_key(private_key or "")
    with drafted(handing) as drafts:
        if handing.qr_file and not dry_run:
            config = parse_client_config(ask(key, dry_run=True)["config"])
            check_fits(handing, render_client_config(config, private_key))
        made = ask(key, dry_run=dry_run)
        parsed = parse_client_config(made["config"])
        del made["config"]  # as `show` has it
        if dry_run:
            _show(made, output)
            say(f"would {what} ext client {made['name']}")
            return made
        config_text = render_client_config(parsed, private_key)
        with made_good(undo, f"nmk extclient {what} again, with --config-file FILE"):
            hand_out(made, config_text, handing, drafts, output)
    addresses = ", ".join(made["addresses"])
    say(f"ext client {made['name']} has {addresses}, by {made['gateway']} at {parsed.endpoint}")
    if made["routes"]:
        say(f"behind it: {', '.join(made['routes'])}; {_ROUTER}")
    _say_when(made)
    named = f"-n {made['network']} {made['name']}"
    host = parsed.endpoint.rpartition(":")[0].strip("[]")
    if is_private(host):
        own_key = f" --public-key {handing.public_key}" if handing.public_key else ""
        say(
            f"note: {host} is reached in its own LAN only; for a device elsewhere, which then "
            "gets the second config:",
            f"  nmk gateway add -n {made['network']} {made['gateway']} ingress "
            "--endpoint HOST:PORT",
            f"  nmk extclient rotate {named}{own_key}",
        )
    if made["state"] != "enabled":
        say(f"note: it is {made['state']}, and not let in: nmk extclient enable {named}")
    if private_key:
        say(
            "its private key is in that config alone; to replace one that was lost: "
            f"nmk extclient rotate {named}"
        )
    return made


def _say_who_is_in_it(api: AdminApi, client: Json) -> None:
    """Which nodes do not reach what is behind a router, as they are in such a LAN themselves."""
    if not client["routes"]:
        return
    from nmk.core.claims import find_declined

    nodes = api.call_list(f"/networks/{segment(client['network'])}/nodes")
    found = find_declined(client["routes"], ((node["name"], node["lan"]) for node in nodes))
    for cidr, rows in found.items():
        for node, subnet in sorted(rows):
            left = f"{node} leaves out {cidr} of {client['name']}"
            say(f"{left}: it is in {subnet} itself")


def _path(api: AdminApi, network: str | None, name: str) -> str:
    return f"/networks/{segment(api.network(network))}/extclients/{segment(name)}"


def _cure(network: str, name: str) -> str:
    """What issues a config that fits."""
    own_key = "(with --public-key KEY for a device that made its key itself)"
    return f"  next: nmk extclient rotate -n {network} {name}   {own_key}"


def _in_short(client: Json) -> str:
    """Why a client's config is stale, in a line."""
    reasons = client["stale"]
    if len(reasons) == 1:
        return str(reasons[0])
    whole = f"nmk extclient show -n {client['network']} {client['name']}"
    more = f"{len(reasons) - 1} more" if len(reasons) <= _COUNTED else "many more"
    return f"{reasons[0]}, and {more}: {whole}"


def _show(client: Json, output: str) -> None:
    show(_readable(client) if output == "table" else client, output, COLUMNS, "name")


def _say_when(client: Json) -> None:
    """From when on a change counts."""
    if client["gateway"]:
        say(f"it takes effect at the next check-in of {client['gateway']}")


def _readable(client: Json) -> Json:
    """A client's amounts and times for people."""
    counts = {k: None if client[k] is None else show_bytes(client[k]) for k in ("received", "sent")}
    return client | {**counts, "handshake": show_ago(client["handshake"])}


def _row(client: Json) -> Json:
    """A client as the table of all shows it."""
    return _readable(client) | {"stale": "stale" if client["stale"] else "fits"}
