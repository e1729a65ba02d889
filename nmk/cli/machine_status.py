"""How `nmk status` looks."""

from __future__ import annotations

import json

import click

from nmk.agent.status import Row
from nmk.cli.output import show_table

COLUMNS = ("PEER", "ADDRESSES", "ENDPOINT", "KIND", "HANDSHAKE", "RECEIVED", "SENT")
NEXT = {
    "down": "down until: nmk up",
    "missing": "not there; nmk up",
    "taken": "not ours: another program has made an interface of this name",
    "joining": "join was cut short; repeat: nmk join -",
    "deleted": "deleted on the controller; nmk leave",
}
_UNITS = ("B", "KiB", "MiB", "GiB", "TiB")


def show_status(networks: list[Row], output: str) -> None:
    """Print networks and their peers; `-o name` prints the peers' names."""
    if output == "json":
        click.echo(json.dumps(networks, indent=2, ensure_ascii=False))
    elif output == "name":
        for network in networks:
            for peer in network["peers"]:
                click.echo(peer["name"])
    elif not networks:
        click.echo("this machine is in no network", err=True)
    else:
        for number, network in enumerate(networks):
            _show_network(network, first=number == 0)


def _show_network(network: Row, *, first: bool) -> None:
    if not first:
        click.echo()
    controller = network["controller"]
    reach = "answers" if controller["reachable"] else "does not answer; the mesh works without it"
    condition = NEXT.get(network["state"], f"up, UDP port {network['listen_port']}")
    click.echo(f"network     {network['network']}")
    click.echo(f"this node   {network['name'] or '-'}  {', '.join(network['addresses'])}".rstrip())
    click.echo(f"interface   {network['interface']}, {condition}")
    click.echo(f"controller  {controller['url']} {reach}")
    if network["peers"]:
        click.echo()
        show_table(COLUMNS, [_peer_cells(peer) for peer in network["peers"]])


def _peer_cells(peer: Row) -> list[str]:
    return [
        peer["name"],
        ", ".join(peer["addresses"]),
        peer["endpoint"] or "-",
        peer["kind"] or "-",
        "never" if peer["handshake"] is None else f"{show_age(peer['handshake'])} ago",
        show_bytes(peer["received"]),
        show_bytes(peer["sent"]),
    ]


def show_age(seconds: int) -> str:
    """A time span in its largest whole unit: 42s, 3m, 5h, 2d."""
    for size, unit in ((86400, "d"), (3600, "h"), (60, "m")):
        if seconds >= 2 * size:
            return f"{seconds // size}{unit}"
    return f"{seconds}s"


def show_bytes(count: int) -> str:
    """A number of bytes for people: 17 B, 2.5 MiB."""
    size, unit = float(count), 0
    while size >= 1024 and unit < len(_UNITS) - 1:
        size, unit = size / 1024, unit + 1
    return f"{count} B" if unit == 0 else f"{size:.1f} {_UNITS[unit]}"
