"""`nmk key`."""

from __future__ import annotations

from ipaddress import ip_address
from urllib.parse import urlsplit

import click

from nmk.cli.api import AdminApi, Json, network_option, segment, server_options
from nmk.cli.handing import made_good
from nmk.cli.nouns import Noun, dry_run_option
from nmk.cli.output import output_option, put, report, say, show
from nmk.errors import BadInput

COLUMNS = {
    "ID": "id",
    "STATE": "state",
    "USES": "uses",
    "OF": "uses_max",
    "EXPIRES": "expires_at",
    "NODES": "nodes",
}


@click.group(cls=Noun, epilog="Example: nmk key create -n home")
def key() -> None:
    """Access keys: create, list, show, delete (revoke)."""


@key.command(epilog="Example: nmk key create -n home --uses 5 --expires 7d")
@network_option
@click.option("--uses", metavar="N", help="Machines it lets in.  [default: 1]")
@click.option("--unlimited", is_flag=True, help="No limit.")
@click.option(
    "--expires", metavar="TIME", default="24h", show_default=True, help="30m, 24h, 7d or never."
)
@dry_run_option
@output_option
@server_options
def create(
    api: AdminApi,
    network: str | None,
    uses: str | None,
    unlimited: bool,
    expires: str,
    dry_run: bool,
    output: str,
) -> None:
    """Create an access key and print its join token.

    The token is a secret and is shown this once.
    """
    if unlimited and uses is not None:
        raise BadInput("--uses and --unlimited contradict each other", "leave one of the two out")
    name = api.network(network)
    body = {"uses": None if unlimited else "1" if uses is None else uses, "expires": expires}
    path = f"/networks/{segment(name)}/keys"
    made = api.call("POST", path, body, dry_run=dry_run)
    if dry_run:
        show(made, output, COLUMNS, "id")
        say(f"would create an access key of {name}")
        return

    def undo() -> str:
        api.delete(f"{path}/{segment(made['id'])}")
        return "the access key was revoked again"

    with made_good(undo, "nmk key create again, to a terminal or a file with room"):
        if output == "table":
            put(made["token"])
        else:
            show(made, output, COLUMNS, "id")
    _explain(made, is_shown=output == "json")


def _explain(made: Json, *, is_shown: bool) -> None:
    """What to do with the token, and who can use it. `is_shown`: all of it has been printed."""
    times = {None: "any number of machines", 1: "one machine"}.get(
        made["uses_max"], f"{made['uses_max']} machines"
    )
    say(f"access key {made['id']} lets {times} join {made['network']}"
        + (f" until {made['expires_at']}" if made["expires_at"] else ""))  # fmt: skip
    say("on a machine that has nmk:  nmk join -   (paste the token, then Ctrl-D)")
    if made["install"] and not is_shown:  # it has the token in it
        say("on a machine that has nothing, paste this line:", "", made["install"], "")
    warning = reach_warning(made["urls"])
    if warning:
        say(*warning)


def reach_warning(urls: list[str]) -> list[str]:
    """Who can join by these URLs, where that is not everybody; lines."""
    hosts = [urlsplit(url).hostname or "" for url in urls]
    if not all(is_private(h) for h in hosts):
        return []
    if all(_is_loopback(h) for h in hosts):
        who = "only this host"
    else:
        who = "only machines in the same local networks"
    return [
        f"note: {who} can join, the token leads to {', '.join(urls)}",
        "  for others: start the controller with --public-url http://ADDRESS:50051",
    ]


def is_private(host: str) -> bool:
    """Whether a host of a URL or an endpoint is reached only from near it."""
    try:
        return ip_address(host).is_private
    except ValueError:
        return host == "localhost"


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


@key.command("list", epilog="Example: nmk key list --all -n home")
@click.option("--all", "every", is_flag=True, help="Those that were revoked, too.")
@network_option
@output_option
@server_options
def list_(api: AdminApi, network: str | None, every: bool, output: str) -> None:
    """List a network's access keys and who used them."""
    path = f"/networks/{segment(api.network(network))}/keys" + "?all=true" * every
    show(api.call_list(path), output, COLUMNS, "id")


@key.command("show", epilog="Example: nmk key show 4f2a91c3d07be856")
@click.argument("key_id", metavar="ID")
@network_option
@output_option
@server_options
def show_(api: AdminApi, network: str | None, key_id: str, output: str) -> None:
    """Show an access key, also a revoked one. Its secret is not known any more."""
    path = f"/networks/{segment(api.network(network))}/keys/{segment(key_id)}"
    show(api.call("GET", path), output, COLUMNS, "id")


@key.command(epilog="Example: nmk key delete 4f2a91c3d07be856")
@click.argument("key_id", metavar="ID")
@network_option
@dry_run_option
@server_options
def delete(api: AdminApi, network: str | None, key_id: str, dry_run: bool) -> None:
    """Revoke an access key; the machines that it let in stay."""
    path = f"/networks/{segment(api.network(network))}/keys/{segment(key_id)}"
    api.delete(path, dry_run=dry_run)
    if dry_run:
        say(f"would revoke access key {key_id}")
    else:
        report(f"revoked access key {key_id}; machines that it let in stay")
