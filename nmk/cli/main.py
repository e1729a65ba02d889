"""The entry point: which commands there are, and how errors leave."""

from __future__ import annotations

import importlib
import os
import signal
import sys
from typing import Any, NoReturn

import click

from nmk.archive import own_command, start_again
from nmk.cli import output
from nmk.cli.nouns import Commands
from nmk.core.parse import quote
from nmk.errors import EXIT_USAGE, BadInput, NmkError, OutputFailed
from nmk.tools import search_path
from nmk.unforeseen import ours

MOST_LEVELS = 64  # of a directory that a variable names
EVERYDAY = ("server", "join", "checkin", "network", "key", "extclient")
AREAS: dict[str, tuple[str, ...]] = {
    "Everyday": EVERYDAY,
    "Nodes": ("node", "gateway"),
    "This machine": ("set", "show", "leave", "up", "down", "showconf"),
    "Seeing": ("status", "ping", "doctor", "log"),
    "Install": ("invite", "agent", "service", "uninstall", "version", "help"),
}
COMMANDS = {
    "server": "nmk.cli.server:server",
    "network": "nmk.cli.network:network",
    "key": "nmk.cli.key:key",
    "node": "nmk.cli.node:node",
    "gateway": "nmk.cli.gateway:gateway",
    "extclient": "nmk.cli.extclient:extclient",
    "set": "nmk.cli.wishes:set_",
    "show": "nmk.cli.wishes:show",
    "invite": "nmk.cli.invite:invite",
    "agent": "nmk.cli.service:agent",
    "service": "nmk.cli.service:service",
    "help": "nmk.cli.help:help_",
    **{
        name: f"nmk.cli.machine:{name}"
        for name in (
            "join", "checkin", "leave", "up", "down", "showconf", "uninstall", "version"
        )
    },
    **{name: f"nmk.cli.machine_seeing:{name}" for name in ("status", "ping", "doctor", "log")},
}  # fmt: skip
ALIASES = {
    "networks": "network",
    "keys": "key",
    "nodes": "node",
    "gateways": "gateway",
    "extclients": "extclient",
}


class LazyCommands(Commands):
    """A group that imports a command when it is used: start-up time counts for `nmk checkin`."""

    aliases = ALIASES

    def list_commands(self, _ctx: click.Context) -> list[str]:
        """All commands, in the order of the help page."""
        return [name for names in AREAS.values() for name in names]

    def get_command(self, _ctx: click.Context, name: str) -> click.Command | None:
        """The command of a name or alias."""
        target = COMMANDS.get(ALIASES.get(name, name))
        if target is None:
            return None
        module, _, attribute = target.partition(":")
        command: click.Command = getattr(importlib.import_module(module), attribute)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The commands by area."""
        for area, names in AREAS.items():
            with formatter.section(area):
                commands = [(n, self.get_command(ctx, n)) for n in names]
                formatter.write_dl([(n, c.get_short_help_str(80)) for n, c in commands if c])


def _show_version(ctx: click.Context, _param: click.Parameter, value: bool) -> None:
    if value:
        from nmk.cli.machine import version_line

        output.put(version_line())
        ctx.exit()


@click.group(
    cls=LazyCommands,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="Example: nmk network create home",
)
@click.option(
    "--version", is_flag=True, is_eager=True, expose_value=False, callback=_show_version,
    help="Show the version and exit.",
)  # fmt: skip
def nmk() -> None:
    """Create and manage WireGuard mesh networks.

    One command is the controller (nmk server), the agent on every machine (nmk join, nmk checkin)
    and the admin's tool (nmk network, nmk key, nmk node).

    Exit codes: 0 done, 1 failed and a person is needed, 2 wrong usage, 75 try again later.
    """


def main() -> NoReturn:
    """Run the command line, and leave with its exit code."""
    sys.exit(run(sys.argv[1:]))


def run(args: list[str]) -> int:
    """Run one command; the exit code. Errors are printed, none escapes."""
    output.open_streams()
    output.expect_json(args)
    output.name_program(lambda: own_command(search_path()), COMMANDS)
    try:
        _check_places()
        result = nmk.main(args, prog_name="nmk", standalone_mode=False)
    except OutputFailed as error:
        if not error.broken:
            output.fail(error.code, error.message, error.hint)
        return error.exit_code
    except NmkError as error:
        output.fail(error.code, error.message, error.hint)
        return error.exit_code
    except click.ClickException as error:
        _tell_usage(error, getattr(error, "ctx", None), args)
        return EXIT_USAGE
    except (click.Abort, KeyboardInterrupt):
        output.fail("interrupted", "interrupted", "run the same command again")
        return 128 + signal.SIGINT
    except Exception as error:
        start_again(error)
        if os.environ.get("NMK_DEBUG"):
            raise
        found = ours(error)
        output.fail(found.code, found.message, found.hint)
        return found.exit_code
    return _exit_code(result)


def _check_places() -> None:
    """Raises BadInput where a variable names a place that is too deep to be made."""
    for name, value in os.environ.items():
        if name.startswith("NMK_") and name.endswith("_DIR") and value.count("/") > MOST_LEVELS:
            raise BadInput(
                f"{name} has more than {MOST_LEVELS} levels: {quote(value)}",
                f"set {name} to a place with fewer directories above it",
            )


def _tell_usage(error: click.ClickException, ctx: click.Context | None, args: list[str]) -> None:
    if ctx and error.message == ctx.get_help():  # a group without a command
        output.say_text(error.message)
    else:
        message = " ".join(error.format_message().split())  # click lists choices a line each
        hint = getattr(error, "hint", f"{ctx.command_path if ctx else _command_in(args)} --help")
        output.fail("usage", message, hint)


def _command_in(args: list[str]) -> str:
    """The command that is meant; click does not tell where an option's value is missing."""
    command: click.Command = nmk
    path = ["nmk"]
    for word in args:
        if not isinstance(command, click.Group):
            break
        if found := command.get_command(click.Context(command), word):
            command = found
            path.append(word)
    return " ".join(path)


def _exit_code(result: Any) -> int:  # noqa: ANN401  # whatever a command returned
    return result if isinstance(result, int) else 0


if __name__ == "__main__":
    main()
