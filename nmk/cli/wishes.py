"""`nmk set` and `nmk show`: what the owner of this machine wishes."""

from __future__ import annotations

import click

from nmk.cli.api import network_option
from nmk.cli.cut_off import cut_off_told, tell_cut_off
from nmk.cli.machine import runner, talk_options
from nmk.cli.nouns import Setter, dry_run_option, parse_pairs
from nmk.cli.output import output_option, say
from nmk.cli.output import show as show_rows
from nmk.core.settings import NETWORK_SETTINGS, WISHES
from nmk.system.facts import check_root

COLUMNS = {"SETTING": "name", "VALUE": "value", "FROM": "from"}
EXAMPLES = {
    **{w.name: next((c for c in w.choices if c != w.default), "NODE") for w in WISHES.values()},
    **{s.name: str(s.default) for s in NETWORK_SETTINGS.values()},
}


@click.command(
    "set",
    cls=Setter,
    known={w.name: w.help for w in WISHES.values()},
    epilog="Example: nmk set exit-node=home kill-switch=on",
)
@click.argument("settings", metavar="KEY=VALUE...", nargs=-1, required=True)
@network_option
@dry_run_option
@talk_options
def set_(
    settings: tuple[str, ...], network: str | None, dry_run: bool, quiet: bool, verbose: bool
) -> None:
    """Set what this machine wishes for itself; it wins over what the controller says.

    Settings of the network, such as mtu=1380, can be set for this machine alone as well. An empty
    value takes a setting back.
    """
    from nmk.agent.exits import WAITS
    from nmk.agent.salvage import choose
    from nmk.agent.settings import route_wishes
    from nmk.agent.wishes import note

    check_root("nmk set")
    pairs, run = parse_pairs(settings, EXAMPLES), runner(dry_run, verbose)
    chosen = choose(network, run)
    with cut_off_told(chosen, quiet=quiet or dry_run):
        me = note(chosen, pairs, run)
    if not dry_run:
        say(f"{me.network}: {', '.join(settings)}", quiet=quiet)
        tell_cut_off(me, quiet=quiet)
        if pairs.get("kill-switch") == "on" and not route_wishes(me).exit_node:
            say(f"note: {WAITS}", f"  next: nmk set -n {me.network} exit-node=NODE", quiet=quiet)


@click.command(epilog="Example: nmk show -o json")
@network_option
@output_option
def show(network: str | None, output: str) -> None:
    """Show this machine's settings in a network, and where each is from."""
    from nmk.agent.salvage import choose
    from nmk.agent.wishes import show as settings_of

    check_root("nmk show")
    name = choose(network, runner(dry=False, verbose=False))
    show_rows(settings_of(name), output, COLUMNS, "name")
