"""`nmk service` and `nmk agent`: running nmk with the machine."""

from __future__ import annotations

import click

from nmk.cli.machine import runner, talker
from nmk.cli.nouns import Noun, dry_run_option
from nmk.cli.output import output_option, say, say_text, show
from nmk.core.units import ROLES
from nmk.system.facts import check_root
from nmk.unread import never_wait

COLUMNS = {
    "ROLE": "role",
    "BY": "manager",
    "INSTALLED": "installed",
    "ACTIVE": "active",
    "FILE": "file",
}
role_argument = click.argument("role", type=click.Choice(list(ROLES)), default="agent")


@click.command(epilog="Example: nmk agent --verbose")
@click.option("-v", "--verbose", is_flag=True, help="Show commands as they run.")
def agent(verbose: bool) -> None:
    """Keep this machine in its networks, in the foreground, until SIGTERM or Ctrl-C.

    Checks in at each network's interval, at once on SIGHUP and when the machine's addresses or
    routes change. `nmk service install` starts it with the machine.
    """
    from nmk.agent.daemon import Agent

    check_root("nmk agent")
    never_wait(lambda lines: f"nmk: nobody read this log: lines left out: {lines}")
    Agent(runner(dry=False, verbose=verbose), say).serve()


@click.group(cls=Noun, epilog="Example: nmk service install")
def service() -> None:
    """Start nmk with this machine: install, remove, status."""


@service.command(epilog="Example: nmk service install agent")
@role_argument
@dry_run_option
def install(role: str, dry_run: bool) -> None:
    """Start the agent or the server with this machine, and now.

    By systemd or OpenRC; where there is neither the agent runs from cron, as check-ins.
    """
    from nmk.agent.service import install as install_service
    from nmk.archive import running_file

    check_root("nmk service install")
    program = str(running_file() or "nmk")
    install_service(role, program, runner(dry_run, verbose=False), say_text)


@service.command(epilog="Example: nmk service remove agent")
@role_argument
@dry_run_option
def remove(role: str, dry_run: bool) -> None:
    """Stop it and do not start it with this machine any more. Tunnels stay as they are."""
    from nmk.agent.service import remove as remove_service

    check_root("nmk service remove")
    if not remove_service(role, runner(dry_run, verbose=False), talker(quiet=False)):
        say(f"the {role} is not started with this machine")


@service.command(epilog="Example: nmk service status -o json")
@click.argument("role", type=click.Choice(list(ROLES)), required=False)
@output_option
def status(role: str | None, output: str) -> None:
    """Show what is started with this machine."""
    from nmk.agent.service import idle_cron
    from nmk.agent.service import status as service_status
    from nmk.archive import running_file

    found = [
        service_status(r, runner(dry=False, verbose=False)) for r in ([role] if role else ROLES)
    ]
    show(found, output, COLUMNS, "role")
    idle = any(row["manager"] == "cron" and row["installed"] for row in found)
    if idle and (starting := idle_cron(str(running_file() or "nmk"))):
        say("cron is not running, so nothing checks in", f"  try: {starting}")
