"""`nmk extclient import`: a WireGuard hub of this machine is taken over with its clients."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from ipaddress import ip_interface
from typing import TYPE_CHECKING

import click

from nmk.cli.api import AdminApi, Json, network_option, segment, server_options
from nmk.cli.nouns import confirm, dry_run_option, yes_option
from nmk.cli.output import output_option, say, say_text, show
from nmk.core.parse import quote
from nmk.errors import NotJoined

if TYPE_CHECKING:
    from nmk.agent.hub_file import HubFile
    from nmk.core.hub_clients import Hub
    from nmk.core.quick import HubConfig

COLUMNS = {
    "NAME": "name",
    "ADDRESSES": "addresses",
    "ROUTES": "routes",
    "PUBLIC KEY": "public_key",
}

MOST_LINES = 100  # of what is not taken over


@click.command("import", epilog="Example: nmk extclient import /etc/wireguard/wg0.conf")
@click.argument("file", metavar="WG0.CONF")
@network_option
@yes_option
@dry_run_option
@output_option
@server_options
def import_(
    api: AdminApi, network: str | None, file: str, yes: bool, dry_run: bool, output: str
) -> None:
    """Take over a WireGuard hub of this machine, such as wg-quick's or wg-easy's.

    Run it on the hub, when that has joined a network with the hub's range. Its clients keep
    addresses and keys, the machine takes the hub's key and port: no device needs a new config. The
    hub's private key and preshared keys stay on this machine's disk.
    """
    from nmk.agent.hub_file import parse_hub_file, read_hub_file
    from nmk.agent.takeover import hub_in, in_use, is_here, look_ahead, take_over
    from nmk.cli.machine import runner
    from nmk.core.quick import decode_quick, parse_quick
    from nmk.system.facts import check_root

    check_root("nmk extclient import")
    found = parse_hub_file(file)
    run = runner(dry_run, verbose=False)
    config = parse_quick(decode_quick(read_hub_file(found)), in_use(found, run))
    name = _choose(network, config)
    hub = hub_in(name, config)
    for line in bounded(hub.left):
        say(f"not taken over: {line}")
    ways = look_ahead(name, found, config, run)
    hub = replace(hub, translates=hub.translates or ways.exit is not None)
    if ways.exit:
        say(f"to be an exit gateway: {ways.exit} leads the clients of {found.interface} out")
    for lost in ways.lost:
        say(f"will end: {lost.what}", f"  to keep it: {lost.keep}")
    if not is_here(name, found, hub, run):
        say_text(_not_here(found))
    if not dry_run:
        question = f"Take over {found.interface} and its {len(hub.clients)} clients into {name}?"
        confirm(question, yes=yes)

    def ask(remote_name: str, body: Json) -> Json:
        return api.call("POST", f"/networks/{segment(remote_name)}/hubs", body, dry_run=dry_run)

    answer = take_over(name, found, hub, ask, run, say_text)
    for left in answer["left"]:
        say(
            f"not taken over: {left['range']} behind {left['name']}: somebody has it, or a part",
            f"  when it is free: nmk extclient set {left['name']} routes={left['range']}",
        )
    show(answer["clients"], output, COLUMNS, "name")
    for line in _summary(answer, hub, name, dry_run=dry_run):
        say_text(line)


def bounded(lines: Sequence[str]) -> list[str]:
    """The first of the lines, and how many more there are."""
    more = len(lines) - MOST_LINES
    return [*lines[:MOST_LINES], *([f"{more} more"] if more > 0 else [])]


def _choose(network: str | None, hub: HubConfig) -> str:
    """The network to take the hub into. Raises NotJoined, Ambiguous."""
    from nmk.agent import state

    known = state.networks()
    if known and (network is None or network in known):
        return state.choose(network)
    name = network or "home"
    missing = f"is not in a network named {quote(network)}" if network else "is in no network yet"
    raise NotJoined(
        f"this machine {missing}",
        f"on the controller: nmk network create {name} {' '.join(hub.ranges)}; "
        f"nmk key create -n {name}; here, with the token: nmk join -",
    )


def _not_here(file: HubFile) -> str:
    return (
        f"note: no {file.interface} with this key runs here; if the hub runs on another machine, "
        "its clients go on calling that one\n"
        f"  if it is this machine's: wg-quick up {file.path.absolute()}, unless it was in a "
        "container that you stopped"
    )


def _summary(answer: Json, hub: Hub, network: str, *, dry_run: bool) -> list[str]:
    """What was done, or would be."""
    node, count, known = answer["node"], len(answer["clients"]), answer["known"]
    addresses = ", ".join(str(ip_interface(a).ip) for a in hub.addresses)
    took, has = ("would take", "would have") if dry_run else ("took", "has")
    place = f"{addresses} and UDP port {hub.listen_port}"
    lines = [
        f"{took} over {count} ext clients, {known} were there",
        f"{node} {has} {place}; its roles: {', '.join(answer['roles'])}",
    ]
    if hub.translates and "exit" in answer["roles"]:
        so, is_ = ("would", "would be") if dry_run else ("does", "is")
        lines.append(f"the hub led its clients out, and so {so} {node}: it {is_} an exit gateway")
    elif hub.translates:
        lines.append(
            f"note: the hub led its clients out, and {node} does not any more\n"
            f"  to have it so: nmk gateway add -n {network} {node} exit"
        )
    return lines if dry_run else [*lines, "  next: nmk doctor"]
