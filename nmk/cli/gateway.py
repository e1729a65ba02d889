"""`nmk gateway`."""

from __future__ import annotations

from ipaddress import ip_interface, ip_network
from urllib.parse import urlencode

import click

from nmk.cli.api import AdminApi, Json, network_option, segment, server_options
from nmk.cli.nouns import Noun, confirm, dry_run_option, yes_option
from nmk.cli.output import output_option, report, say, show
from nmk.core.gateways import NATS, ROLES
from nmk.core.parse import overlap
from nmk.core.sites import Carrier, parted, way_along, ways_to_say

COLUMNS = {
    "NODE": "node",
    "ROLE": "role",
    "RANGES": "ranges",
    "NAT": "nat",
    "INTERFACE": "interface",
    "METRIC": "metric",
    "CALLED AT": "called_at",
    "CLIENTS": "clients",
    "STATE": "state",
    "SERVES": "serves",
}
_role_argument = click.argument("role", type=click.Choice(ROLES))


@click.group(cls=Noun, epilog="Example: nmk gateway list")
def gateway() -> None:
    """Gateways: let phones in, join sites, lead to the internet.

    ingress lets ext clients in, egress routes ranges outside the network, exit routes everything
    for the machines that ask it to.
    """


@gateway.command("list", epilog="Example: nmk gateway list")
@network_option
@output_option
@server_options
def list_(api: AdminApi, network: str | None, output: str) -> None:
    """List a network's gateways, a row for each role.

    SERVES is what the gateway said at its last check-in: no comes with the reason, and - means that
    it has said nothing yet, as before its second check-in with the role.
    """
    rows = api.call_list(f"/networks/{segment(api.network(network))}/gateways")
    named = list({row["node"]: row for row in rows}.values())
    listed = [_readable(row) for row in rows] if output == "table" else rows
    show(named if output == "name" else listed, output, COLUMNS, "node")
    for row in rows:
        _say_what_is_amiss(row)


@gateway.command(epilog="Example: nmk gateway add office egress 192.168.1.0/24 --as 10.201.1.0/24")
@click.argument("node")
@_role_argument
@click.argument("ranges", metavar="[CIDR...]", nargs=-1)
@network_option
@click.option(
    "--as",
    metavar="CIDR",
    help="egress: the network sees the range as this one, address by address: for a LAN whose "
    "range another site has too. Empty: as it is.",
)
@click.option(
    "--same-lan",
    is_flag=True,
    help="egress: other gateways for the range serve the same LAN, and stand in for one another.",
)
@click.option(
    "--endpoint",
    metavar="HOST[:PORT]",
    help="ingress: where ext clients call, at the node's own port where none is given; else as "
    "peers do. Empty: that again.",
)
@click.option(
    "--nat",
    type=click.Choice(NATS),
    help="egress, exit: whether packets leave under the gateway's own address.  [default: auto, "
    "unless they come from a global one]",
)
@click.option(
    "--interface", metavar="IF", help="egress, exit: the interface that they leave by. Empty: any."
)
@click.option(
    "--metric",
    metavar="N",
    help="egress: of several gateways for a range the lowest that is up serves.  [default: 100]",
)
@dry_run_option
@output_option
@server_options
def add(
    api: AdminApi,
    network: str | None,
    node: str,
    role: str,
    ranges: tuple[str, ...],
    same_lan: bool,
    dry_run: bool,
    output: str,
    **options: str | None,
) -> None:
    """Give a node a role, or change what is given of one that it has.

    Ranges are added to those that it routes. Everything follows at the machines' next check-ins.
    """
    name = api.network(network)
    body = {"node": node, "role": role, "ranges": list(ranges), "same_lan": same_lan, **options}
    path = f"/networks/{segment(name)}/gateways"
    before = api.call_list(path)
    made = api.call("POST", path, body, dry_run=dry_run)
    # By the machines, or in words below.
    told = {"serves", "obstacle", "left_out", "left_out_more", "shares"}
    readable = {k: v for k, v in _readable(made).items() if k not in told}
    shown = readable if output == "table" else made
    _say_what_is_amiss(made)
    _say_who_is_left(before, made)
    show(shown, output, COLUMNS, "node")
    if options["as"] and options["as"] in ranges:
        say(f"note: {options['as']} stands for itself, so it is routed as it is")
    if made in before:
        say(f"nothing to change: {node} is that gateway of {name} already")
    elif dry_run:
        say(f"would make {node} an {role} gateway of {name}")
    else:
        say(f"{node} is an {role} gateway of {name}", f"  next: {next_step(made)}")
    if dry_run:
        return
    clients = api.call_list(f"/networks/{segment(name)}/extclients")
    if role == "egress":
        had = {cidr for row in before if row["node"] == node for cidr in row["ranges"]}
        for line in ways_back(api, made, had, clients):
            say(line)
    if role == "ingress":
        _say_where_it_is_called(api, made)
    if stale := sum(bool(client["stale"]) for client in clients):
        say(f"configs that do not fit any more: {stale}, see: nmk extclient list -n {name}")


@gateway.command(epilog="Example: nmk gateway remove office egress 192.168.50.0/24")
@click.argument("node")
@_role_argument
@click.argument("ranges", metavar="[CIDR...]", nargs=-1)
@network_option
@yes_option
@dry_run_option
@server_options
def remove(
    api: AdminApi,
    network: str | None,
    node: str,
    role: str,
    ranges: tuple[str, ...],
    yes: bool,
    dry_run: bool,
) -> None:
    """Take a role from a node, or only the ranges named from an egress gateway.

    Ext clients of an ingress gateway stay, and wait for it or for another one.
    """
    name = api.network(network)
    path = f"/networks/{segment(name)}/gateways/{segment(node)}/{segment(role)}"
    if ranges:
        path += "?" + urlencode([("range", cidr) for cidr in ranges])
    what = f"{', '.join(ranges)} from {node}" if ranges else f"the role {role} from {node}"
    rows = api.call_list(f"/networks/{segment(name)}/gateways")
    clients = api.call_list(f"/networks/{segment(name)}/extclients")
    if role == "ingress" and (come := sum(client["gateway"] == node for client in clients)):
        what += f", by which {come} ext clients come"
    if not ranges:
        what += what_goes([row for row in rows if row["role"] == role], clients, node)
    if not dry_run:
        api.delete(path, dry_run=True)  # nobody is asked about what is not there
        confirm(f"Take {what}?", yes=yes)
    api.delete(path, dry_run=dry_run)
    if dry_run:
        say(f"would take {what}")
    else:
        report(f"took {what}; machines follow at their next check-in")


def _readable(row: Json) -> Json:
    """A row with its ranges as `add` takes them."""
    ranges = [
        lan if lan == cidr else f"{lan} as {cidr}"
        for cidr, lan in zip(row["ranges"], lans_of(row), strict=True)
    ]
    return {k: v for k, v in {**row, "ranges": ranges}.items() if k != "mapped"}


def lans_of(row: Json) -> list[str]:
    """The ranges of a row as their LANs have them."""
    return [row["mapped"].get(cidr, cidr) for cidr in row["ranges"]]


def say_obstacle(row: Json) -> None:
    """Why a gateway does not serve, where that is known."""
    if row["obstacle"]:
        say(f"{row['node']} does not serve as {row['role']} gateway: {row['obstacle']}")


def _say_what_is_amiss(row: Json) -> None:
    """Why a gateway does not serve, who does not route a range of it, what nobody has said."""
    say_obstacle(row)
    for left in row["left_out"]:
        say(
            f"{left['node']} leaves out {left['range']} of {row['node']}: "
            f"it is in {left['subnet']} itself"
        )
    if more := row.get("left_out_more"):
        say(f"and {more} more leave out ranges of {row['node']} that they are in themselves")
    for shared in row["shares"]:
        cidr = shared["range"]
        lan = row["mapped"].get(cidr, cidr)
        say(f"{shared['node']} and {row['node']} both route {cidr}: is that the same LAN?")
        second = Carrier("node", row["node"], cidr, lan)
        say(*ways_to_say(row["network"], shared["node"], second))


def _say_who_is_left(before: list[Json], made: Json) -> None:
    """The other gateways of a LAN that a mapping has taken this one from."""
    had = [carrier for row in before for carrier in _carriers(row)]
    for left, now in parted(had, _carriers(made)):
        say(
            f"{left.name} goes on to route {left.range}, and {now.name} stands in for it no more: "
            "both served one LAN",
            f"  to map it too: {way_along(made['network'], left, now)}",
        )


def _carriers(row: Json) -> list[Carrier]:
    """What a row's gateway carries."""
    ways = zip(row["ranges"], lans_of(row), strict=True)
    return [Carrier("node", row["node"], cidr, lan) for cidr, lan in ways]


def _say_where_it_is_called(api: AdminApi, made: Json) -> None:
    """What has to be done where the node itself does not have the endpoint that was found."""
    node = api.call("GET", f"/networks/{segment(made['network'])}/nodes/{segment(made['node'])}")
    own = [str(ip_interface(a).ip) for a in node["lan"]]
    host, _, port = (made["called_at"] or "").rpartition(":")
    if made["endpoint"] or node["endpoint"] or host.strip("[]") in own:
        return
    note = f"nobody knows yet where {made['node']} is called"
    if host:
        note = f"{host} is not its own: its router has to pass on UDP port {port}"
    say(
        f"note: {note}; another endpoint:",
        f"  nmk gateway add -n {made['network']} {made['node']} ingress --endpoint HOST:PORT",
    )


def what_goes(rows: list[Json], clients: list[Json], node: str) -> str:
    """What leads nowhere once a node has none of the roles in these rows any more; "" for nothing.

    `rows`: those of other gateways, too, which may stand in for it.
    """
    routed = {cidr for row in rows if row["node"] != node for cidr in row["ranges"]}
    found = []
    for row in (row for row in rows if row["node"] == node):
        if alone := [cidr for cidr in row["ranges"] if cidr not in routed]:
            found.append(f"nobody else routes {', '.join(alone)}")
        if row["role"] == "exit":
            full = sum(c["gateway"] == node and c["full_tunnel"] for c in clients)
            who = f" and {full} full-tunnel ext clients" if full else ""
            found.append(f"machines with exit-node={node}{who} lose their way out")
    return "".join(f"; {line}" for line in found)


def next_step(made: Json) -> str:
    """What to do after a role was given."""
    network = made["network"]
    return {
        "ingress": f"nmk extclient create -n {network} NAME",
        "egress": "nothing; machines follow at their next check-in, see: nmk status there",
        "exit": f"on the machine that wants it: nmk set -n {network} exit-node={made['node']}",
    }[made["role"]]


def ways_back(api: AdminApi, made: Json, had: set[str], clients: list[Json]) -> list[str]:
    """The routes that hosts behind gateways without NAT need, so that answers find their way.

    Those of this gateway's hosts, and at other such gateways those to the ranges that are new with
    this one, which `had` the others before.
    """
    path = f"/networks/{segment(made['network'])}"
    network = api.call("GET", path)
    gateways = [g for g in api.call_list(f"{path}/gateways") if g["role"] == "egress"]
    mesh = [c for c in (network["cidr4"], network["cidr6"]) if c]
    others = {r for row in gateways for r in row["ranges"]} - set(made["ranges"])
    others |= {r for client in clients for r in client["routes"]}
    new = [cidr for cidr in made["ranges"] if cidr not in had]
    lines = []
    for gateway in gateways:
        if gateway["nat"] == "off":
            is_this = gateway["node"] == made["node"]
            node = api.call("GET", f"{path}/nodes/{segment(gateway['node'])}")
            routes = _routes(lans_of(gateway), [*mesh, *sorted(others)] if is_this else new, node)
            if routes:
                lines += [f"in the LAN of {gateway['node']}:", *dict.fromkeys(routes)]
    if not lines:
        return []
    return ["without NAT hosts of the ranges need routes back, best on their router:", *lines]


def _routes(ranges: list[str], targets: list[str], node: Json) -> list[str]:
    """The lines for the LANs of one gateway."""
    lines = []
    for is_ipv6 in (False, True):
        near = [r for r in ranges if (":" in r) == is_ipv6]
        there = [t for t in targets if (":" in t) == is_ipv6]
        far = [t for t in there if not any(overlap(ip_network(t), ip_network(r)) for r in near)]
        lines += [f"  ip route add {t} via {via}" for via in _vias(near, node) for t in far]
    return lines


def _vias(ranges: list[str], node: Json) -> list[str]:
    """The gateway's own addresses in its ranges; where it has none, a word in their place."""
    own = [ip_interface(a).ip for a in node["lan"]]
    found = [str(a) for a in own if any(a in ip_network(r) for r in ranges)]
    return found or [f"ADDRESS-OF-{node['name']}"] * bool(ranges)
