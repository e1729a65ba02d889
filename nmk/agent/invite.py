"""`nmk invite`: machines are let into a network over ssh, several at a time."""

from __future__ import annotations

import hashlib
import io
import tarfile
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from nmk.archive import served_script
from nmk.core.invitation import Outcome, Talk, by_hand, parse_answer, render_script
from nmk.errors import BadInput, CommandFailed
from nmk.system.ssh import run_there, ssh_command

Tell = Callable[[str, str], None]  # a machine, and the step it is at


@dataclass(frozen=True, slots=True)
class Invitation:
    """What all machines get: the network, the token that lets them in, the archive with nmk.

    `ranges`: those of the network's that are wanted whatever they hold.
    """

    network: str
    token: str
    archive: bytes
    ssh_options: tuple[str, ...] = ()
    ask: bool = False
    ranges: tuple[str, ...] = ()


def make_archive(nmk: bytes) -> bytes:
    """A tar archive with the file `nmk` and the script that installs this very file only."""
    script = served_script(hashlib.sha256(nmk).hexdigest())
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for name, content in (("install.sh", script), ("nmk", nmk)):
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return buffer.getvalue()


def invite_all(
    machines: Sequence[str], invitation: Invitation, jobs: int, tell: Tell
) -> list[Outcome]:
    """Invite the machines, so many at a time; how it ended for each, in their order.

    One that fails does not stop the others.
    """
    with ThreadPoolExecutor(jobs) as pool:
        futures = [pool.submit(invite, machine, invitation, tell) for machine in machines]
        try:
            return [future.result() for future in futures]
        except BaseException:  # Ctrl-C, which the running sessions have got as well
            pool.shutdown(cancel_futures=True)
            raise


def invite(machine: str, invitation: Invitation, tell: Tell) -> Outcome:
    """Invite one machine."""
    talk = Talk()

    def hear(line: str) -> None:
        if step := talk.hear(line):
            tell(machine, step)

    tell(machine, "connecting")
    try:
        exit_code, output = run_there(
            ssh_command(machine, invitation.ssh_options, ask=invitation.ask),
            render_script(invitation.network, invitation.ranges),
            invitation.token.encode() + b"\n" + invitation.archive,
            hear,
        )
        outcome = _judge(machine, talk, exit_code, output, invitation)
    except CommandFailed as error:
        outcome = Outcome(
            machine, problem=error.message, hint=by_hand(machine, invitation.ssh_options)
        )
    tell(machine, f"joined as {outcome.node}" if outcome.node else "failed")
    return outcome


def _judge(
    machine: str, talk: Talk, exit_code: int, output: str, invitation: Invitation
) -> Outcome:
    options = invitation.ssh_options
    if exit_code != 0:
        own = ("-n", invitation.network, *(f"--range={cidr}" for cidr in invitation.ranges))
        problem, hint = talk.failure(machine, exit_code, options, own)
        return Outcome(machine, problem=problem, hint=hint)
    try:
        return parse_answer(machine, output)
    except BadInput as error:
        return Outcome(
            machine, problem=error.message, hint=f"{by_hand(machine, options)} nmk status"
        )
