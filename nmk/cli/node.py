"""`nmk node`."""

from __future__ import annotations

import click

from nmk.cli.api import AdminApi, network_option, segment, server_options
from nmk.cli.nouns import Noun, confirm, dry_run_option, parse_pairs, yes_option
from nmk.cli.output import output_option, say, show

COLUMNS = {
    "NAME": "name",
    "ADDRESSES": "addresses",
    "STATE": "state",
    "LAST SEEN": "last_seen",
    "SEEN AT": "observed",
    "PORT": "listen_port",
}


@click.group(cls=Noun)
def node() -> None:
    """Nodes: list, show, set, delete. Machines become nodes by `nmk join`."""


@node.command("list", epilog="Example: nmk node list -o json | jq -r '.[].addresses[0]'")
@network_option
@output_option
@server_options
def list_(api: AdminApi, network: str | None, output: str) -> None:
    """List a network's nodes.

    A node is healthy, late or lost by its own check-in interval, while the controller runs.
    """
    name = api.network(network)
    nodes = api.call("GET", f"/networks/{segment(name)}/nodes")
    show(nodes, output, COLUMNS, "name")
    for troubled in (n for n in nodes if n["cure"]):
        say(f"{troubled['name']} is {troubled['state']}: {troubled['cure']}")


@node.command("show", epilog="Example: nmk node show web")
@click.argument("name")
@network_option
@output_option
@server_options
def show_(api: AdminApi, network: str | None, name: str, output: str) -> None:
    """Show a node."""
    path = f"/networks/{segment(api.network(network))}/nodes/{segment(name)}"
    show(api.call("GET", path), output, COLUMNS, "name")


@node.command("set", epilog="Example: nmk node set web name=www endpoint=198.51.100.7:51821")
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
    r"""Change a node; machines follow at their next check-in.

    \b
      name      its name, a DNS label
      address   its address in the network, IPv4 or IPv6
      endpoint  ADDRESS:PORT where others reach it; empty: found by itself again
    """
    path = f"/networks/{segment(api.network(network))}/nodes/{segment(name)}"
    body = parse_pairs(settings)
    seen = api.call("GET", path)
    changed = api.call("PATCH", path, body, revision=seen["revision"], dry_run=dry_run)
    show(changed, output, COLUMNS, "name")


@node.command(epilog="Example: nmk node delete old-laptop --yes")
@click.argument("name")
@network_option
@yes_option
@dry_run_option
@server_options
def delete(api: AdminApi, network: str | None, name: str, yes: bool, dry_run: bool) -> None:
    """Delete a node, for good: the machine has to join anew to come back."""
    path = f"/networks/{segment(api.network(network))}/nodes/{segment(name)}"
    api.call("GET", path)
    if dry_run:
        say(f"would delete node {name}")
    else:
        confirm(f"Delete node {name}?", yes=yes)
    api.call("DELETE", path, dry_run=dry_run)
