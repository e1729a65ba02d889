"""`nmk invite`: joining machines over ssh."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from nmk.cli.api import AdminApi, Json, network_option, segment, server_options
from nmk.cli.key import reach_warning
from nmk.cli.nouns import Number, dry_run_option
from nmk.cli.output import fail, is_quiet, output_option, put, put_text, say, show
from nmk.errors import EXIT_FAILED, BadInput, CommandFailed, NmkError

if TYPE_CHECKING:
    from nmk.core.invitation import Outcome

COLUMNS = {
    "MACHINE": "machine",
    "STATE": "state",
    "NODE": "node",
    "ADDRESSES": "addresses",
    "MANAGED BY": "kept_by",
}
_KEY_LASTS = "1h"


@click.command(epilog="Example: nmk invite root@web admin@nas -n home")
@click.argument("machines", nargs=-1, required=True, metavar="USER@HOST...")
@network_option
@click.option(
    "--jobs",
    type=Number(1, 64, "number of machines at a time"),
    metavar="N",
    default=8,
    show_default=True,
    help="Machines at a time, 1 to 64. One by one, ssh may ask for a password or about host keys.",
)
@click.option(
    "--ssh-option",
    "ssh_options",
    multiple=True,
    metavar="OPTION",
    help="As for ssh -o, such as Port=2222; may be repeated.",
)
@click.option(
    "--accept-new",
    is_flag=True,
    help="Accept and keep the host key of a machine that ssh does not know yet, unseen.",
)
@click.option(
    "--range",
    "ranges",
    metavar="CIDR",
    multiple=True,
    help="As for nmk join: take this range of the network whatever it holds; may be repeated.",
)
@dry_run_option
@output_option
@server_options
def invite(
    api: AdminApi,
    machines: tuple[str, ...],
    network: str | None,
    jobs: int,
    ranges: tuple[str, ...],
    dry_run: bool,
    output: str,
    **ssh: Any,  # noqa: ANN401  # two options
) -> int:
    """Let machines join a network, over ssh.

    Each gets this nmk, joins with a key that is made for this and revoked at the end, and is kept
    up to date by systemd, OpenRC or cron. USER is root, or may use sudo without a password. A
    machine that fails does not stop the others; inviting one again does no harm.

    ssh compares host keys as ever: one that it does not know yet is refused, unless it can ask (one
    machine at a time, on a terminal) or --accept-new is given; one that has changed always.
    """
    from nmk.agent.invite import Invitation, invite_all
    from nmk.cli.progress import Progress
    from nmk.core.invitation import parse_machine, render_script
    from nmk.core.parse import parse_range
    from nmk.system.ssh import check_ssh, ssh_command

    ssh_options: tuple[str, ...] = ssh["ssh_options"]
    if ssh["accept_new"]:
        ssh_options = (*ssh_options, "StrictHostKeyChecking=accept-new")
    named = tuple(str(parse_range(text)) for text in ranges)
    chosen = list(dict.fromkeys(parse_machine(m) for m in machines))
    ask = sys.stdin is not None and sys.stdin.isatty() and min(jobs, len(chosen)) == 1
    name = api.network(network)
    archive = make_archive_of_running()
    check_ssh()
    with access_key(api, name, len(chosen), dry_run=dry_run) as key:
        if dry_run:
            for machine in chosen:
                put(f"[#] {shlex.join(ssh_command(machine, ssh_options, ask=ask))}")
            put_text(render_script(name, named))
            return 0
        if warning := reach_warning(key["urls"]):
            say(*warning)
        progress = Progress([] if is_quiet() else chosen, live=not ask)
        told = (lambda _machine, _step: None) if is_quiet() else progress.show
        invitation = Invitation(name, key["token"], archive, ssh_options, ask, named)
        outcomes = invite_all(chosen, invitation, jobs, told)
    return report(outcomes, output)


def make_archive_of_running() -> bytes:
    """What machines get: the file that runs now. Raises BadInput in a source tree."""
    from nmk.agent.invite import make_archive
    from nmk.archive import running_file

    file = running_file()
    if file is None:
        raise BadInput("only the file nmk can be copied", "python3 build_zipapp.py, then dist/nmk")
    return make_archive(file.read_bytes())


@contextmanager
def access_key(api: AdminApi, network: str, uses: int, *, dry_run: bool) -> Iterator[Json]:
    """A key for so many machines, revoked at the end with what is left of it."""
    keys = f"/networks/{segment(network)}/keys"
    key: Json = api.call("POST", keys, {"uses": uses, "expires": _KEY_LASTS}, dry_run=dry_run)
    try:
        yield key
    finally:
        if not dry_run:
            try:
                api.delete(f"{keys}/{segment(key['id'])}")
            except NmkError as error:
                again = f"nmk key delete {key['id']} -n {network}"
                say(f"the access key could not be revoked: {error.message}", f"  try: {again}")


def report(outcomes: list[Outcome], output: str) -> int:
    """Print how it ended; the exit code."""
    failed = [o for o in outcomes if o.problem]
    for outcome in failed:
        message = f"{outcome.machine}: {outcome.problem}"
        fail(CommandFailed.code, message, outcome.hint or CommandFailed.default_hint)
    rows = [{**asdict(o), "state": "failed" if o.problem else "joined"} for o in outcomes]
    show(rows, output, COLUMNS, "machine")
    for outcome in outcomes:
        if not outcome.problem and not outcome.kept_by:
            say(
                f"{outcome.machine}: nothing keeps it up to date",
                "  try: nmk doctor, there",
            )
    return EXIT_FAILED if failed else 0
