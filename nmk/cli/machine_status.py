"""How `nmk status` looks."""

from __future__ import annotations

import json
from collections.abc import Iterator

from nmk.agent.status import Row
from nmk.cli.output import render_table
from nmk.core.amounts import show_ago, show_bytes
from nmk.core.claims import LeftOut, summarize

COLUMNS = ("PEER", "ADDRESSES", "STATE", "ENDPOINT", "PATH", "HANDSHAKE", "RECEIVED", "SENT")
CONDITIONS = {
    "down": "down until: nmk up",
    "missing": "not there; nmk up",
    "taken": "not ours: another program has made an interface of this name",
    "joining": "join was cut short; repeat: nmk join -",
    "deleted": "deleted on the controller; nmk leave",
}


def render_status(networks: list[Row], output: str, *, line: bool = False) -> str:
    """Networks and their peers; `-o name` has the peers' names. `line`: JSON on one line."""
    if output == "json":
        return json.dumps(networks, indent=None if line else 2, ensure_ascii=False)
    if output == "name":
        return "\n".join(peer["name"] for network in networks for peer in network["peers"])
    return "\n\n".join("\n".join(_network_lines(network)) for network in networks)


def _network_lines(network: Row) -> Iterator[str]:
    controller = network["controller"]
    reach = "answers" if controller["reachable"] else "does not answer; the mesh works without it"
    condition = CONDITIONS.get(network["state"], f"up, UDP port {network['listen_port']}")
    name, remote_name = network["network"], network["remote_name"]
    yield f"network     {name}" + (f", there {remote_name}" if remote_name != name else "")
    yield f"this node   {network['name'] or '-'}  {', '.join(network['addresses'])}".rstrip()
    yield f"interface   {network['interface']}, {condition}"
    yield f"controller  {controller['url']} {reach}"
    if network["last_check_in"] is not None:
        yield f"check-in    {show_ago(network['last_check_in'])}"
    for line in summarize([LeftOut(**left) for left in network["left_out"]]):
        yield f"warning     {line}"
    if network["peers"]:
        yield ""
        yield render_table(COLUMNS, [_peer_cells(peer) for peer in network["peers"]])
    troubled = [peer for peer in network["peers"] if peer["problem"]]
    if troubled:
        yield ""
    for peer in troubled:
        yield f"{peer['name']}: {peer['problem']}"
        yield f"  try: {peer['next']}"


def _peer_cells(peer: Row) -> list[str]:
    return [
        peer["name"],
        ", ".join(peer["addresses"]),
        peer["state"],
        peer["endpoint"] or "-",
        f"{peer['kind']}: {peer['why']}" if peer["kind"] else "-",
        show_ago(peer["handshake"]),
        show_bytes(peer["received"]),
        show_bytes(peer["sent"]),
    ]
