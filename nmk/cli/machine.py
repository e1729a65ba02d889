"""The commands that act on this machine. What they need is imported when they run."""

from __future__ import annotations

import random
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from nmk.cli.api import network_option
from nmk.cli.cut_off import cut_off_told, tell_cut_off, tell_cut_off_of
from nmk.cli.nouns import confirm, dry_run_option, yes_option
from nmk.cli.output import fail, is_watched, put, put_text, say, say_text
from nmk.core.parse import parse_seconds, quote
from nmk.errors import BadInput, MachineUnfit, NmkError
from nmk.system.facts import check_root

if TYPE_CHECKING:
    from nmk.agent.membership import Membership, Wishes
    from nmk.system.runner import Runner

_LONGEST_SPLAY = 3600  # seconds
MOST_TOKEN_BYTES = 16 * 1024
_PASTE = "nmk join -   (paste the token, then Ctrl-D)"


def talk_options(command: Any) -> Any:  # noqa: ANN401  # decorator
    """`-q` and `-v`, as the parameters `quiet` and `verbose`."""
    command = click.option("-v", "--verbose", is_flag=True, help="Show commands as they run.")(
        command
    )
    return click.option("-q", "--quiet", is_flag=True, help="Print data and errors alone.")(command)


@click.command(epilog="Example: nmk join - --name web < token")
@click.argument("token", required=False, metavar="[TOKEN|-]")
@click.option("--token-file", metavar="FILE", envvar="NMK_TOKEN_FILE", help="Read the token there.")
@click.option("--name", envvar="NMK_NAME", help="The node's name; else made of the host's.")
@click.option(
    "--address", envvar="NMK_ADDRESS", help="Its address in the network; else a free one."
)
@click.option(
    "--endpoint",
    metavar="ADDRESS[:PORT]",
    envvar="NMK_ENDPOINT",
    help="Where peers reach this machine, if nothing but you knows; else at its own port.",
)
@click.option(
    "--listen-port", envvar="NMK_LISTEN_PORT", help="WireGuard's UDP port; else a free one."
)
@click.option(
    "--daemon",
    type=click.Choice(["auto", "on", "off"]),
    default="auto",
    show_default=True,
    envvar="NMK_DAEMON",
    help="Start `nmk agent` with this machine: by itself where systemd or OpenRC runs.",
)
@click.option(
    "--new-identity", is_flag=True, help="Forget who this machine was in the network: a copy."
)
@click.option("--interface", envvar="NMK_INTERFACE", help="The interface's name; else nmk-NETWORK.")
@click.option(
    "--as",
    "called",
    metavar="NAME",
    envvar="NMK_AS",
    help="What this machine calls the network, where another controller's has its name.",
)
@click.option(
    "--range",
    "ranges",
    metavar="CIDR",
    multiple=True,
    envvar="NMK_RANGE",
    help="Take this range of the network although it is public, or holds what this machine uses.",
)
@dry_run_option
@talk_options
def join(
    token: str | None,
    token_file: str | None,
    daemon: str,
    new_identity: bool,
    dry_run: bool,
    quiet: bool,
    verbose: bool,
    ranges: tuple[str, ...],
    **wished: str | None,
) -> None:
    """Join a network with a token from `nmk key create`.

    The token is an argument, or "-" for standard input, or in --token-file or NMK_JOIN_TOKEN,
    where other users of this machine cannot see it. A join that was cut short is simply repeated.
    """
    from nmk.agent.join import join as join_network
    from nmk.core.parse import parse_interface, parse_network_name, parse_range
    from nmk.wire.token import parse_token

    found = parse_token(read_token(token, token_file))
    interface, called = wished.pop("interface"), wished.pop("called")
    wishes, named = parse_wishes(**wished), {str(parse_range(text)) for text in ranges}
    if interface:
        parse_interface(interface)
    if called:
        parse_network_name(called)
    if not dry_run:
        check_root("nmk join")
    talk = talker(quiet=quiet)
    run = runner(dry_run, verbose)
    me = join_network(
        found,
        wishes,
        interface,
        run,
        talk,
        called=called or None,
        new_identity=new_identity,
        ranges=named,
    )
    if not dry_run:
        start_daemon(daemon, run, quiet=quiet)
        say_text(next_steps(me), quiet=quiet)


@click.command(epilog="Example: nmk checkin --quiet --splay 30")
@network_option
@click.option(
    "--splay",
    default="0",
    metavar="SECONDS",
    envvar="NMK_SPLAY",
    help="Wait a random time up to this first, at most 3600: not all machines come at once.",
)
@dry_run_option
@talk_options
def checkin(network: str | None, splay: str, dry_run: bool, quiet: bool, verbose: bool) -> int:
    """Tell the controller what changed here, and take in what changed there.

    For cron: without -n it checks in to every network; one that fails does not stop the others.
    With --quiet, only problems that need a person are reported, once each: immediately if they
    are permanent, after ten failed runs if they may pass.
    """
    from nmk.agent import patience, state
    from nmk.agent.interface import complain
    from nmk.agent.mend import shut_networks
    from nmk.agent.places import find_exposure, state_directory
    from nmk.agent.rounds import check_in_all
    from nmk.agent.salvage import choose
    from nmk.agent.wake import wake

    check_root("nmk checkin")
    shut_networks(runner(dry_run, verbose))
    seconds = parse_splay(splay)
    if seconds and not dry_run:
        time.sleep(random.uniform(0, seconds))  # noqa: S311  # spreads load, hides nothing
    if quiet and not network and not state.networks():
        return 0  # the machine has left, and cron goes on
    every = [] if network else state.networks()
    chosen = every or [choose(network, runner(dry_run, verbose))]
    talk = talker(quiet=quiet)
    if fault := find_exposure():
        talk(f"warning: {state_directory()} is not safe: {fault.reason}; {fault.mend}")
    failures, told = set(), set[str]()
    for name, outcome in check_in_all(chosen, partial(runner, dry_run, verbose), in_turn=quiet):
        try:
            if isinstance(outcome, NmkError):
                raise outcome
            complain(outcome)
            patience.over(name)
            if not dry_run:
                wake(name)
            talk(summary(outcome))
            tell_cut_off(outcome, quiet=quiet or dry_run)
        except NmkError as error:
            if not quiet or verbose or patience.speaks(name, error):
                _tell_failure(name, error, told)
                tell_cut_off_of(name, quiet=dry_run)
            failures.add(error.exit_code)
    return min(failures, default=0)  # what needs a person before what may pass by itself


def _tell_failure(network: str, error: NmkError, told: set[str]) -> None:
    """Say why a check-in failed; what the machine lacks is the same for all, and `told` once."""
    is_machines = isinstance(error, MachineUnfit)
    message = error.message if is_machines else f"{network}: {error.message}"
    if message not in told:
        fail(error.code, message, error.hint)
    told.add(message)


@click.command(epilog="Example: nmk leave -n home")
@network_option
@click.option("--force", is_flag=True, help="Leave although the controller cannot be told.")
@dry_run_option
@talk_options
def leave(network: str | None, force: bool, dry_run: bool, quiet: bool, verbose: bool) -> None:
    """Leave a network: tell the controller, remove the interface and all state."""
    from nmk.agent import state
    from nmk.agent.leave import leave as leave_network
    from nmk.agent.leave import leave_lost
    from nmk.agent.salvage import choose

    check_root("nmk leave")
    if force and network and network not in state.networks():
        leave_lost(network, runner(dry_run, verbose), talker(quiet=quiet))
        return
    name = choose(network, runner(dry_run, verbose), state.LEFT_HINT)
    leave_network(name, runner(dry_run, verbose), talker(quiet=quiet), force=force)


@click.command(epilog="Example: nmk up")
@network_option
@dry_run_option
@talk_options
def up(network: str | None, dry_run: bool, quiet: bool, verbose: bool) -> None:
    """Bring the interface up from what is on disk, with or without the controller."""
    from nmk.agent import updown
    from nmk.agent.salvage import choose

    check_root("nmk up")
    run = runner(dry_run, verbose)
    name = choose(network, run)
    with cut_off_told(name, quiet=quiet or dry_run):
        me = updown.up(name, run)
    say(f"{me.interface} is up", quiet=quiet or dry_run)
    tell_cut_off(me, quiet=quiet or dry_run)


@click.command(epilog="Example: nmk down -n home")
@network_option
@dry_run_option
@talk_options
def down(network: str | None, dry_run: bool, quiet: bool, verbose: bool) -> None:
    """Take the interface down until `nmk up`; check-ins leave it down."""
    from nmk.agent import state, updown
    from nmk.agent.salvage import choose

    check_root("nmk down")
    run = runner(dry_run, verbose)
    name = choose(network, run, state.LEFT_HINT)
    with cut_off_told(name, quiet=quiet or dry_run):
        me = updown.down(name, run)
    until = "" if me.phase == "deleted" else " until `nmk up`"  # which then would refuse
    say(f"{me.interface} is down{until}", quiet=quiet or dry_run)
    tell_cut_off(me, quiet=quiet or dry_run)


@click.command(epilog="Example: nmk showconf -n home | install -m 600 /dev/stdin home.conf")
@network_option
def showconf(network: str | None) -> None:
    """Print the tunnel as a file for wg-quick. The output contains the private key."""
    from nmk.agent import updown
    from nmk.agent.salvage import choose
    from nmk.core.tunnel import render_quick

    check_root("nmk showconf")
    name = choose(network, runner(dry=False, verbose=False))
    put_text(render_quick(updown.as_wished(name)))


@click.command(epilog="Example: nmk version")
def version() -> None:
    """Print the version of nmk and of the Python that runs it."""
    put(version_line())


def version_line() -> str:
    """What `nmk version` prints."""
    from nmk import __version__

    return f"nmk {__version__} (Python {'.'.join(map(str, sys.version_info[:3]))})"


@click.command(epilog="Example: nmk uninstall --yes")
@click.option("--purge", is_flag=True, help="Remove a controller's data and /etc/nmk as well.")
@yes_option
@dry_run_option
@talk_options
def uninstall(purge: bool, yes: bool, dry_run: bool, quiet: bool, verbose: bool) -> None:
    """Leave every network and remove nmk from this machine."""
    from nmk.agent.uninstall import uninstall as remove_all

    check_root("nmk uninstall")
    if not dry_run:
        extent = "nmk, a controller's data included," if purge else "nmk"
        confirm(f"Leave all networks and remove {extent} from this machine?", yes=yes)
    remove_all(runner(dry_run, verbose), talker(quiet=quiet), purge=purge)


def parse_splay(text: str) -> float:
    """The longest wait, after kill switches are laid: no mistake opens one. Raises BadInput."""
    return parse_seconds(text, _LONGEST_SPLAY, "splay")


def read_token(argument: str | None, file: str | None) -> str:
    """The join token's text, from wherever it is given. Raises BadInput."""
    import os

    if argument and file:
        raise BadInput("a token as an argument and in a file", "leave one of the two out")
    try:
        if file:
            with Path(file).open("rb") as opened:
                return opened.read(MOST_TOKEN_BYTES).decode()
        if argument == "-":
            return sys.stdin.buffer.read(MOST_TOKEN_BYTES).decode() if sys.stdin else ""
    except (OSError, UnicodeDecodeError) as error:
        where = f" from {quote(file)}" if file else ""
        why = getattr(error, "strerror", None) or "it is no text"
        raise BadInput(f"the token cannot be read{where}: {why}", _PASTE) from None
    token = argument or os.environ.get("NMK_JOIN_TOKEN")
    if not token:
        raise BadInput("there is no join token", _PASTE)
    return token


def parse_wishes(
    name: str | None, address: str | None, endpoint: str | None, listen_port: str | None
) -> Wishes:
    """What the owner asks for, each as far as it is given. Raises BadInput."""
    from nmk.agent.membership import Wishes
    from nmk.core.parse import parse_address, parse_label, parse_pinned, parse_port

    return Wishes(
        name=parse_label(name, "node name") if name else None,
        address=str(parse_address(address)) if address else None,
        endpoint=parse_pinned(endpoint) if endpoint else None,
        listen_port=parse_port(listen_port) if listen_port else None,
    )


def runner(dry: bool, verbose: bool) -> Runner:
    """What runs commands: shown instead of run when dry, shown on standard error when verbose."""
    from nmk.system.runner import DryRunner, Runner

    note = say if is_watched() else None
    if dry:
        return DryRunner(lambda text: put(*text.split("\n")), warn=say, note=note)
    return Runner(say_text if verbose else None, warn=say, note=note)


def talker(*, quiet: bool) -> Callable[[str], None]:
    """What prints a step on standard error, or does not."""
    return lambda text: say(text, quiet=quiet)


def summary(me: Membership) -> str:
    """A check-in's outcome in a line."""
    peers = len(me.known.view.peers) if me.known else 0
    return f"{me.network}: {me.interface} is {'down' if me.down else 'up'}, peers: {peers}"


def start_daemon(daemon: str, run: Runner, *, quiet: bool) -> None:
    """Start the agent with this machine; `auto`: where systemd or OpenRC does such things."""
    from nmk.agent.service import find_manager, install
    from nmk.archive import running_file

    program = str(running_file() or "nmk")
    manager = find_manager("agent", program)
    if daemon == "on" or (daemon == "auto" and manager and manager.name != "cron"):
        install("agent", program, run, partial(say_text, quiet=quiet))


def next_steps(me: Membership) -> str:
    """What to do after a join."""
    from nmk.agent.service import idle_cron, keep_hint, status
    from nmk.archive import running_file
    from nmk.system.starters import agent_runs

    program = str(running_file() or "nmk")
    starting = idle_cron(program)
    cron = f"cron has to run, and does not:\n\n  {starting}" if starting else ""
    keeper = status("agent", runner(dry=False, verbose=False))
    if keeper["installed"]:
        is_cron = keeper["manager"] == "cron" and not agent_runs()
        who = "cron" if is_cron else "The agent"
        keeping = f" To keep it up to date, {cron}" if cron else f" {who} keeps it up to date."
    else:
        keeping = f" To keep it up to date:\n\n  {keep_hint(program)}"
        keeping += f"\n\nFor that {cron}" if cron else ""
    down = f" It stays down until: nmk up -n {me.network}." if me.down else ""
    return (
        f"\nDone: this machine is in {me.network}.{down}{keeping}\n\nWho is there:\n\n  nmk status"
    )
