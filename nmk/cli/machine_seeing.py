"""The commands that show what this machine does in its networks, and change nothing."""

from __future__ import annotations

import time
from dataclasses import asdict
from datetime import datetime, timezone
from itertools import chain
from typing import TYPE_CHECKING

import click

from nmk.agent.own_controller import data_directory
from nmk.cli.api import network_option
from nmk.cli.machine import runner
from nmk.cli.nouns import Number
from nmk.cli.output import as_called, output_option, put, put_json, put_text, report_option, say
from nmk.core.amounts import show_ago
from nmk.errors import EXIT_FAILED
from nmk.system.facts import check_root

if TYPE_CHECKING:
    from nmk.agent.history import Entry
    from nmk.core.findings import Finding
    from nmk.system.echo import Echo

_CONTROLLER_PERIOD = 30  # seconds between two looks at a controller while watching
CAUSES = {
    "join": "join",
    "check-in": "check-in",
    "failed-check-in": "check-in that failed, put right from disk",
    "restore": "put in place from disk",
    "mended": "put right at once",
    "change": "addresses or routes of this machine changed",
    "up": "nmk up",
    "down": "nmk down",
    "set": "nmk set",
    "gateway": "a gateway fell silent or came back",
    "deleted": "deleted on the controller",
}


@click.command(epilog="Example: nmk status -o json")
@network_option
@click.option("--watch", "again", is_flag=True, help="Every two seconds anew, until Ctrl-C.")
@output_option
def status(network: str | None, again: bool, output: str) -> None:
    """Show this machine's networks and peers. Works without the controller.

    A peer is connected, idle (nobody has anything to say; fine), trying (its first handshake is
    under way), waiting (it has to call this machine), failed (packets go out and none come back),
    silent (a gateway that this machine has given up for that) or off (the interface is not up).
    """
    from nmk.agent import state
    from nmk.agent.lock import find_stuck
    from nmk.agent.peer_status import Trails
    from nmk.agent.salvage import choose, leftovers
    from nmk.agent.status import is_reachable
    from nmk.agent.status import status as status_of
    from nmk.cli.machine_status import render_status
    from nmk.cli.watch import remembered, watch

    check_root("nmk status")
    trails: Trails = {}
    run = runner(dry=False, verbose=False)
    reachable = remembered(is_reachable, _CONTROLLER_PERIOD)

    def render() -> str:
        chosen = [choose(network, run)] if network else state.networks()
        now = time.time()
        held = find_stuck() if chosen else None
        rows = [
            status_of(n, run, now, reachable=reachable, trails=trails, held=held) for n in chosen
        ]
        if not rows and output == "table":
            left = leftovers(run)
            say(*left.told, *([f"  try: {left.cure}"] if left.cure else ()))
        return render_status(rows, output, line=again)

    if again:
        watch(render)
        return
    if text := render():
        put_text(f"{text}\n")


@click.command(epilog="Example: nmk ping web")
@click.argument("node")
@network_option
@click.option(
    "-c",
    "--count",
    type=Number(1, 1000, "number of pings"),
    default=3,
    show_default=True,
    metavar="N",
    help="How many pings.",
)
@report_option
def ping(node: str, network: str | None, count: int, output: str) -> None:
    """Ping a node or ext client, by name or address, through the mesh, and tell the path.

    Where no ping is answered it tells what was looked at and what to do next, and exits with 1.
    """
    from nmk.agent.ping import failure_of, find_target, ping_node

    check_root("nmk ping")
    target = find_target(node, network)
    if output == "table":
        put(f"{target.peer.name} is {target.address} in {target.me.network}")

    def tell(number: int, echo: Echo) -> None:
        answer = "no answer" if echo.milliseconds is None else f"{echo.milliseconds:g} ms"
        if output == "table":
            put(f"{number}: {answer}")

    result = ping_node(target, runner(dry=False, verbose=False), count, time.time, tell)
    if output == "json":
        put_json(result)
    else:
        path = result["path"]
        by = f"by its gateway {path['gateway']}, " if path["gateway"] else ""
        by += f"{path['endpoint']} ({path['kind']}: {path['why']})" if path["kind"] else "no path"
        put(f"{result['answered']} of {result['sent']} answered")
        put(f"path: {by}, last handshake {show_ago(path['handshake'])}")
        put(*(f"checked: {line}" for line in result["checked"]))
    if failure := failure_of(result):
        raise failure


@click.command(epilog="Example: nmk doctor")
@network_option
@report_option
def doctor(network: str | None, output: str) -> int:
    """Look at all that the mesh needs on this machine, and at a controller here; change nothing.

    Each finding is ok, warn or broken, with a reason and the command that mends it. The exit code
    is 1 when something is broken.
    """
    from nmk.agent import state
    from nmk.agent.doctor import attempt, examine
    from nmk.agent.salvage import choose
    from nmk.cli.controller_check import check_own_controller
    from nmk.core.findings import is_broken

    check_root("nmk doctor")
    run = runner(dry=False, verbose=False)
    chosen = [choose(network, run)] if network else state.networks()
    findings: list[Finding] = []
    server = attempt("server", None, lambda: check_own_controller(data_directory()))
    # A host that is a controller and nothing else needs nothing of what a node does.
    is_node = bool(chosen) or not server
    own = examine(chosen, run, time.time) if is_node else ()
    for finding in chain(server, own):
        findings.append(finding)
        if output == "table":
            put(*finding_lines(finding))
    if output == "json":
        put_json([asdict(f) for f in findings])
    elif not chosen and all(f.check != "leftovers" for f in findings):
        say("this machine is in no network")
    return EXIT_FAILED if is_broken(findings) else 0


@click.command(epilog="Example: nmk log -n home")
@network_option
@report_option
def log(network: str | None, output: str) -> None:
    """Show what nmk changed on this machine lately, when and why, the newest last."""
    from nmk.agent import history, state
    from nmk.agent.salvage import choose

    check_root("nmk log")
    run = runner(dry=False, verbose=False)
    chosen = [choose(network, run, state.LEFT_HINT)] if network else state.networks()
    entries = sorted(
        ((entry, name) for name in chosen for entry in history.read(name)),
        key=lambda pair: pair[0].at,
    )
    if output == "json":
        put_json([{"network": n, **asdict(e), "at": utc(e.at)} for e, n in entries])
        return
    if not entries:
        say("nmk has changed nothing on this machine")
    for entry, name in entries:
        put(*entry_lines(entry, name))


def finding_lines(finding: Finding) -> list[str]:
    """A finding for people."""
    where = f"{finding.network}: " if finding.network else ""
    lines = [f"{finding.level:<7} {finding.check:<12} {where}{finding.reason}"]
    return lines if finding.mend is None else [*lines, f"{'':<21}try: {as_called(finding.mend)}"]


def entry_lines(entry: Entry, network: str) -> list[str]:
    """A plan of the log for people, in the machine's own time."""
    when = datetime.fromtimestamp(entry.at, timezone.utc).astimezone()
    cause = CAUSES.get(entry.cause, entry.cause)
    often = f", {entry.times} times in a row" if entry.times > 1 else ""
    lines = [f"{when:%Y-%m-%d %H:%M:%S}  {network}  {cause}, revision {entry.revision}{often}"]
    lines += [f"    {change}" for change in entry.changes]
    if entry.more:
        lines.append(f"    and {entry.more} more")
    if entry.failed:
        lines.append(f"    cut short: {entry.failed}")
    return lines


def utc(seconds: int) -> str:
    """A time as the API writes it: 2026-01-05T10:00:00Z."""
    return f"{datetime.fromtimestamp(seconds, timezone.utc):%Y-%m-%dT%H:%M:%SZ}"
