"""`nmk network`."""

from __future__ import annotations

from ipaddress import ip_network

import click

from nmk.cli.api import AdminApi, Json, segment, server_options
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
from nmk.core.fitness import is_public
from nmk.core.settings import NETWORK_SETTINGS

COLUMNS = {
    "NAME": "name",
    "IPV4": "cidr4",
    "IPV6": "cidr6",
    "NODES": "nodes",
    "REVISION": "revision",
}
SETTINGS = {
    s.name: f"{s.help}; {s.low} to {s.high}{s.unit and ' ' + s.unit}, {s.default} by default"
    for s in NETWORK_SETTINGS.values()
}

EXAMPLES = {s.name: str(s.default) for s in NETWORK_SETTINGS.values()}


@click.group(cls=Noun, epilog="Example: nmk network create home")
def network() -> None:
    """Networks: create, list, show, set, delete."""


@network.command(epilog="Example: nmk network create home 10.20.0.0/16 fd20::/64")
@click.argument("name")
@click.argument("cidrs", metavar="[CIDR] [CIDR6]", nargs=-1)
@dry_run_option
@output_option
@server_options
def create(api: AdminApi, name: str, cidrs: tuple[str, ...], dry_run: bool, output: str) -> None:
    """Create a network.

    Without ranges a free IPv4 /16 and a random IPv6 /64 (ULA) are picked.
    """
    made = api.call("POST", "/networks", {"name": name, "cidrs": list(cidrs)}, dry_run=dry_run)
    ranges = " and ".join(c for c in (made["cidr4"], made["cidr6"]) if c)
    say(f"{'would create' if dry_run else 'created'} network {name} with {ranges}")
    say(*_note_public(made, dry_run=dry_run))
    show(made, output, COLUMNS, "name")
    if not dry_run:
        say(f"  next: nmk key create -n {name}")


@network.command("list", epilog="Example: nmk network list -o json | jq -r '.[].name'")
@output_option
@server_options
def list_(api: AdminApi, output: str) -> None:
    """List all networks."""
    show(api.call_list("/networks"), output, COLUMNS, "name")


@network.command("show", epilog="Example: nmk network show home")
@click.argument("name")
@output_option
@server_options
def show_(api: AdminApi, name: str, output: str) -> None:
    """Show a network with its settings."""
    found = api.call("GET", f"/networks/{segment(name)}")
    if output == "table":
        unknown = found.get("unknown_nodes", [])  # which a controller of nmk 0.2.0 does not tell
        lines = [f"{n['id']} at {n['address']}, last seen {n['last_seen']}" for n in unknown]
        found["unknown_nodes"] = tuple(lines or "-")
    show(found, output, COLUMNS, "name")


@network.command(
    "set",
    cls=Setter,
    known=SETTINGS,
    epilog="Example: nmk network set home mtu=1380 keepalive=0",
)
@click.argument("name")
@click.argument("settings", metavar="KEY=VALUE...", nargs=-1, required=True)
@dry_run_option
@output_option
@server_options
def set_(api: AdminApi, name: str, settings: tuple[str, ...], dry_run: bool, output: str) -> None:
    """Change settings of a network; agents follow at their next check-in."""
    path = f"/networks/{segment(name)}"
    body = {"settings": parse_pairs(settings, EXAMPLES)}
    seen = api.call("GET", path)
    changed = api.call("PATCH", path, body, revision=seen["revision"], dry_run=dry_run)
    show(changed, output, COLUMNS, "name")
    say_unchanged(seen, changed, dry_run=dry_run)


@network.command(epilog="Example: nmk network delete home --yes")
@click.argument("name")
@yes_option
@dry_run_option
@server_options
def delete(api: AdminApi, name: str, yes: bool, dry_run: bool) -> None:
    """Delete a network, its nodes, ext clients and keys, for good."""
    path = f"/networks/{segment(name)}"
    seen = api.call("GET", path)
    clients = len(api.call_list(f"{path}/extclients"))
    what = f"network {name} with its {seen['nodes']} nodes and {clients} ext clients"
    if dry_run:
        say(f"would delete {what}")
    else:
        confirm(f"Delete {what}?", yes=yes)
    api.delete(path, revision=seen["revision"], dry_run=dry_run)
    if not dry_run:
        report(f"deleted {what}")


def _note_public(made: Json, *, dry_run: bool) -> list[str]:
    """What is lost where a range is not the owner's alone, and how to have another; [] else."""
    ranges = [c for c in (made["cidr4"], made["cidr6"]) if c and is_public(ip_network(c))]
    if not ranges:
        return []
    name = made["name"]
    again = f"nmk network create {name}"
    lost = "nodes will not reach hosts of the internet that have addresses in it"
    return [
        f"note: {' and '.join(ranges)} is public address space: {lost}",
        f"  with private ranges: {again if dry_run else f'nmk network delete {name}; {again}'}",
    ]
