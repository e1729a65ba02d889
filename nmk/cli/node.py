"""`nmk node`."""

from __future__ import annotations

import click

from nmk.cli.api import AdminApi, network_option, segment, server_options
from nmk.cli.gateway import say_obstacle, what_goes
from nmk.cli.nouns import (
    Noun,
    Setter,
    confirm,
    dry_run_option,
    parse_pairs,
    say_unchanged,
    yes_option,
)
from nmk.cli.output import Json, output_option, report, say, show
from nmk.core.amounts import show_ago, show_bytes
from nmk.errors import Stale

COLUMNS = {
    "NAME": "name",
    "ADDRESSES": "addresses",
    "STATE": "state",
    "LAST SEEN": "last_seen",
    "SEEN AT": "observed",
    "PORT": "listen_port",
}

EXAMPLES = {"name": "www", "address": "10.20.0.80", "endpoint": "198.51.100.7:51821"}


@click.group(cls=Noun, epilog="Example: nmk node list")
def node() -> None:
    """Nodes: list, show, set, delete. Machines become nodes by `nmk join`."""


@node.command("list", epilog="Example: nmk node list -o json | jq -r '.[].addresses[0]'")
@network_option
@output_option
@server_options
def list_(api: AdminApi, network: str | None, output: str) -> None:
    """List a network's nodes.

    A node is healthy, late or lost by its own check-in interval, while the controller runs; unheard
    until its first check-in after the controller has started.
    """
    name = api.network(network)
    path = f"/networks/{segment(name)}"
    nodes = api.call_list(f"{path}/nodes")
    columns = dict(COLUMNS)
    if output == "table" and any(map(problem_lines, nodes)):
        columns["CHECK-IN"] = "codes"
        nodes = [node | {"codes": problem_codes(node)} for node in nodes]
    show(nodes, output, columns, "name")
    for troubled in nodes:
        if troubled["cure"]:
            places = f" ({' and '.join(troubled['copies'])})" if troubled["copies"] else ""
            say(f"{troubled['name']} is {troubled['state']}{places}: {troubled['cure']}")
        for line in problem_lines(troubled):
            say(f"{troubled['name']}: {line}")
    for row in api.call_list(f"{path}/gateways") if any(node["roles"] for node in nodes) else ():
        say_obstacle(row)
    for stranger in api.call("GET", path).get("unknown_nodes", []):
        say(
            f"a machine at {stranger['address']} checks in as node {stranger['id']}, last at "
            f"{stranger['last_seen']}, which is not known here (a database put back?); "
            "on that machine: nmk join -"
        )


@node.command("show", epilog="Example: nmk node show web")
@click.argument("name")
@network_option
@output_option
@server_options
def show_(api: AdminApi, network: str | None, name: str, output: str) -> None:
    """Show a node, and what it said of its traffic at its last check-in."""
    path = f"/networks/{segment(api.network(network))}/nodes/{segment(name)}"
    found = api.call("GET", path)
    if output == "table":
        found["traffic"] = traffic_lines(found["traffic"])
    show_node(found, output)


@node.command(
    "set",
    cls=Setter,
    known={
        "name": "its name, a DNS label",
        "address": "its address in the network, IPv4 or IPv6",
        "endpoint": "ADDRESS[:PORT] where others reach it, at its own port where none is given; "
        "empty: found automatically again",
    },
    epilog="Example: nmk node set web name=www endpoint=198.51.100.7:51821",
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
    """Change a node; machines follow at their next check-in."""
    path = f"/networks/{segment(api.network(network))}/nodes/{segment(name)}"
    body = parse_pairs(settings, EXAMPLES)
    seen = api.call("GET", path)
    try:
        changed = api.call("PATCH", path, body, revision=seen["revision"], dry_run=dry_run)
    except Stale:
        again = api.call("GET", path)
        if any(again[field] != seen[field] for field in ("name", "addresses", "endpoint")):
            raise  # another admin's edit; else it was only the machine's report
        changed = api.call("PATCH", path, body, revision=again["revision"], dry_run=dry_run)
    show_node(changed, output)
    say_unchanged(seen, changed, dry_run=dry_run)


@node.command(epilog="Example: nmk node delete old-laptop --yes")
@click.argument("name")
@network_option
@yes_option
@dry_run_option
@server_options
def delete(api: AdminApi, network: str | None, name: str, yes: bool, dry_run: bool) -> None:
    """Delete a node, for good: the machine has to join anew to come back."""
    there = f"/networks/{segment(api.network(network))}"
    path = f"{there}/nodes/{segment(name)}"
    api.call("GET", path)
    clients = api.call_list(f"{there}/extclients")
    lost = sum(client["gateway"] == name for client in clients)
    what = f"node {name}, the gateway of {lost} ext clients" if lost else f"node {name}"
    what += what_goes(api.call_list(f"{there}/gateways"), clients, name)
    if dry_run:
        say(f"would delete {what}")
    else:
        confirm(f"Delete {what}?", yes=yes)
    api.delete(path, dry_run=dry_run)
    if not dry_run:
        report(f"deleted {what}")


def show_node(node: Json, output: str) -> None:
    """Print one node."""
    if output == "table":
        node["check_in"] = check_in_lines(node)
    show(node, output, COLUMNS, "name")


def problem_codes(node: Json) -> list[str]:
    """What is wrong with a node's check-ins, a word each."""
    told = node["check_in"]
    return [p["code"] for p in (told["failure"], *told["problems"]) if p]


def problem_lines(node: Json) -> list[str]:
    """The same for people."""
    told = node["check_in"]
    failure, lines = told["failure"], []
    if failure:
        lines.append(_failure_line(failure))
    lines += [f"could not be applied: {_with_hint(p)}" for p in told["problems"]]
    return lines + ([f"and {told['more']} more: nmk node show"] if told.get("more") else [])


def _failure_line(failure: Json) -> str:
    """Check-ins that failed before the one that told of them, which may have worked again."""
    count = failure["count"]
    often = "one" if count == 1 else str(count)
    before = f"before its last check-in, {often} since {failure['since']} did not do all"
    return f"{before} (if it works again, the next one says so): {_with_hint(failure)}"


def check_in_lines(node: Json) -> tuple[str, ...]:
    """How a node's check-ins go."""
    told = node["check_in"]
    if told["revision"] is None:
        return ("not told yet",)
    return (f"follows revision {told['revision']} of {told['newest']}", *problem_lines(node))


def _with_hint(problem: Json) -> str:
    hint = f"; on the machine: {problem['hint']}" if problem["hint"] else ""
    return f"{problem['message']} ({problem['code']}){hint}"


def traffic_lines(traffic: Json | None) -> tuple[str, ...]:
    """A node's traffic in words, by peer as far as it is known."""
    if traffic is None:
        return ("not told yet",)
    total = f"received {show_bytes(traffic['received'])}, sent {show_bytes(traffic['sent'])}"
    return (
        f"{total}, peers in touch: {traffic['live_peers']}",
        *(
            f"{peer['name']}: received {show_bytes(peer['received'])}, "
            f"sent {show_bytes(peer['sent'])}, handshake {show_ago(peer['handshake'])}"
            for peer in traffic["busiest"]
        ),
    )
