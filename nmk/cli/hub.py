"""`nmk extclient import`: a WireGuard hub of this machine is taken over with its clients."""

from __future__ import annotations

from pathlib import Path

import click

from nmk.cli.api import AdminApi, Json, network_option, segment, server_options
from nmk.cli.nouns import confirm, dry_run_option, yes_option
from nmk.cli.output import say
from nmk.core.parse import quote
from nmk.errors import BadInput, NotJoined


@click.command("import", epilog="Example: nmk extclient import /etc/wireguard/wg0.conf")
@click.argument("file", metavar="WG0.CONF")
@network_option
@yes_option
@dry_run_option
@server_options
def import_(api: AdminApi, network: str | None, file: str, yes: bool, dry_run: bool) -> None:
    """Take over a WireGuard hub of this machine, such as wg-quick's or wg-easy's.

    Run it on the hub, when that has joined a network with the hub's range. Its clients keep
    addresses and keys, the machine takes the hub's key and port: no device needs a new config. The
    hub's private key and preshared keys stay on this machine's disk.
    """
    from nmk.agent import state
    from nmk.agent.takeover import take_over
    from nmk.cli.machine import runner
    from nmk.core.quick import parse_quick
    from nmk.system.facts import check_root

    path = Path(file)
    hub = parse_quick(_read_hub(path))
    for line in hub.left:
        say(f"not taken over: {line}")
    check_root("nmk extclient import")
    if not state.networks():
        raise NotJoined(
            "this machine is in no network yet",
            f"nmk network create home {' '.join(hub.ranges)}; nmk key create | nmk join -",
        )
    name = state.choose(network)
    if not dry_run:
        confirm(f"Take over {path.stem} and its {len(hub.clients)} clients into {name}?", yes=yes)

    def ask(remote_name: str, body: Json) -> Json:
        made: Json = api.call(
            "POST", f"/networks/{segment(remote_name)}/hubs", body, dry_run=dry_run
        )
        return made

    answer = take_over(name, path, hub, ask, runner(dry_run, verbose=False), say)
    would = "would take" if dry_run else "took"
    say(f"{would} over {len(answer['clients'])} ext clients, {answer['known']} were there")
    if hub.lets_out:
        say(f"the hub led its clients out, and so does {answer['node']}: it is an exit gateway")
    if not dry_run:
        say("  next: nmk doctor")


def _read_hub(path: Path) -> str:
    """The file's text. Raises BadInput."""
    from nmk.core.quick import MOST_TEXT

    try:
        with path.open("rb") as opened:
            return opened.read(MOST_TEXT + 1).decode()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is no UTF-8 text"
        raise BadInput(f"{quote(path)} cannot be read: {reason}") from None
