"""How `nmk status` looks."""

from __future__ import annotations

from collections.abc import Iterator

from nmk.agent.peer_status import Row
from nmk.cli.output import as_called, render_table, to_json
from nmk.core.amounts import show_ago, show_bytes, show_since
from nmk.core.claims import LeftOut, summarize
from nmk.core.text import plain

COLUMNS = ("PEER", "ADDRESSES", "STATE", "ENDPOINT", "PATH", "HANDSHAKE", "RECEIVED", "SENT")
CLIENT_COLUMNS = ("CLIENT", "ADDRESSES", "STATE", "ENDPOINT", "HANDSHAKE", "RECEIVED", "SENT")
COPIED = "on the one that is the copy, and not on the other: nmk join - --new-identity"
CONDITIONS = {
    "down": "down until: nmk up",
    "missing": "not there; nmk up",
    "taken": "not ours: another program has made an interface of this name",
    "unanswered": "there, but wg does not say how it is; nmk doctor",
    "joining": "not there: the join did not come to its end",
    "damaged": "as it was; its state cannot be read",
    "deleted": "deleted on the controller; nmk leave",
}


def render_status(networks: list[Row], output: str, *, line: bool = False) -> str:
    """Networks and their peers; `-o name` has the peers' names. `line`: JSON on one line."""
    if output == "json":
        return to_json(networks, indent=None if line else 2)
    if output == "name":
        return "\n".join(plain(peer["name"]) for net in networks for peer in net["peers"])
    return "\n\n".join(
        "\n".join(as_called(plain(line)) for line in _network_lines(network))
        for network in networks
    )


def _network_lines(network: Row) -> Iterator[str]:
    controller = network["controller"]
    reach = "answers" if controller["reachable"] else "does not answer; the mesh works without it"
    condition = CONDITIONS.get(network["state"], f"up, UDP port {network['listen_port']}")
    name, remote_name = network["network"], network["remote_name"]
    yield f"network     {name}" + (f", there {remote_name}" if remote_name != name else "")
    yield f"this node   {network['name'] or '-'}  {', '.join(network['addresses'])}".rstrip()
    yield f"interface   {network['interface']}, {condition}"
    if controller["url"]:
        yield f"controller  {controller['url']} {reach}"
    if network["last_check_in"] is not None:
        yield f"check-in    {show_ago(network['last_check_in'])}"
    if network["state"] in {"damaged", "joining"}:
        yield f"warning     {network['problem']}"
        yield f"  try: {network['next']}"
    yield from _check_in_lines(network)
    for line in summarize([LeftOut(**left) for left in network["left_out"]]):
        yield f"warning     {line}"
    for problem in network["problems"]:
        yield f"warning     {problem['message']}"
        yield f"  try: {problem['hint']}"
    yield from _gateway_lines(network)
    if network["peers"]:
        yield ""
        rows = [_peer_cells(peer) for peer in network["peers"]]
        yield from render_table(COLUMNS, rows).split("\n")
    if network["clients"]:
        yield ""
        rows = [_client_cells(client) for client in network["clients"]]
        yield from render_table(CLIENT_COLUMNS, rows).split("\n")
    troubled = [peer for peer in network["peers"] if peer["problem"]]
    if troubled:
        yield ""
    for peer in troubled:
        yield f"{peer['name']}: {peer['problem']}"
        yield f"  try: {peer['next']}"


def _check_in_lines(network: Row) -> Iterator[str]:
    """What is wrong with check-ins, or with who makes them."""
    failure = network["check_in"]["failure"]
    if failure:
        often = f"{show_since(failure['since'])}, {failure['count']} in a row"
        yield f"failing     {often}: {failure['message']}"
        if failure["hint"]:
            yield f"  try: {failure['hint']}"
    if network["copies"]:
        yield f"copied      two machines have this identity: {' and '.join(network['copies'])}"
        yield f"  try: {COPIED}"


def _gateway_lines(network: Row) -> Iterator[str]:
    """What this node routes for others, and what it is led by others."""
    roles, obstacle = ", ".join(network["roles"]), network["obstacle"]
    if roles:
        yield f"gateway     {roles}" + (f"; {obstacle}" if obstacle else "")
    elif obstacle:
        yield f"gateway     not {', '.join(network['offered'])}: {obstacle}"
    for cidr, lan in network["mapped"].items():
        yield f"            {lan} is {cidr} to the network"
    for one in network["declined"]:
        why = f"it is in {one['subnet']} itself"
        yield f"            {one['node']} leaves out {one['range']}: {why}"
    for route in network["routes"]:
        by = f"by {route['gateway']}" if route["gateway"] else f"left out: {route['reason']}"
        standby = f", then {', '.join(route['standby'])}" if route["standby"] else ""
        shown = f"{route['range']} (there {route['lan']})" if route["lan"] else route["range"]
        behind = f", behind {route['client']}" if route["client"] else ""
        yield f"route       {shown} {by}{behind}{standby}"
    yield from _exit_lines(network)


def _exit_lines(network: Row) -> Iterator[str]:
    """How everything leaves, what goes past that, and what nothing gets past."""
    leaving = network["exit"]
    if leaving["past"]:
        yield f"exit        {leaving['node']} is asked for, but {leaving['problem']}"
        yield f"  try: {leaving['hint']}"
    elif leaving["node"]:
        problem = f": {leaving['problem']}" if leaving["problem"] else ""
        yield f"exit        everything by {leaving['node']}{problem}"
        if leaving["hint"]:
            yield f"  try: {leaving['hint']}"
    elif leaving["problem"]:
        yield f"exit        none: {leaving['problem']}"
    for lan in leaving["lans"]:
        what = f"shut: {lan['shut']}" if lan["shut"] else "beside the exit node"
        yield f"lan         {lan['range']} at {lan['interface']}, {what}"
    if network["cut_off"]:
        yield f"cut off     the {network['cut_off']['by']} lets nothing out but to the LAN"
        yield f"  try: {network['cut_off']['next']}"
    kill_switch = network["kill_switch"]
    if kill_switch and not kill_switch["laid"]:
        label = "open" if kill_switch["laid"] is False else "unseen"
        yield f"{label:<12}{kill_switch['problem']}"
        yield f"  try: {kill_switch['next']}"


def _client_cells(client: Row) -> list[str]:
    return [
        client["name"],
        ", ".join(client["addresses"]),
        client["state"],
        client["endpoint"] or "-",
        *_counts(client),
    ]


def _counts(row: Row) -> list[str]:
    return [show_ago(row["handshake"]), show_bytes(row["received"]), show_bytes(row["sent"])]


def _peer_cells(peer: Row) -> list[str]:
    return [
        peer["name"],
        ", ".join(peer["addresses"]),
        peer["state"],
        peer["endpoint"] or "-",
        f"{peer['kind']}: {peer['why']}" if peer["kind"] else "-",
        *_counts(peer),
    ]
