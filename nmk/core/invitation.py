"""What `nmk invite` has a machine do over ssh, and what the machine's answers mean."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from nmk.core.nesting import read_first
from nmk.core.parse import quote
from nmk.errors import BadInput

STEP = "invite: "  # how the script's own lines begin; the others are of the programs that it runs
ANSWER = "invite: answer"  # before it stands what a shell prints by itself, such as in .bashrc
_OWN_TALK = "Done:"  # from here on `nmk join` proposes what the script does next anyway
_HINT = "try:"  # what others may have an admin do is for the machine's own screen
SSH_FAILED = 255  # ssh's own exit code; others are the script's

# One session a machine, so that ssh asks for a password once at most. `read` takes no byte more
# than its line (POSIX), so the token comes before the files. `read` and `echo` are the shell's own:
# no process has the token as an argument.
_SCRIPT = """\
root() { if [ "$(id -u)" = 0 ]; then "$@"; else sudo -n -- "$@"; fi; }
step() { echo "invite: $1" >&2; }
read -r token || exit
root true || exit
step 'copying nmk'
dir=$(mktemp -d "${TMPDIR:-/tmp}/nmk-invite.XXXXXX") || exit
trap 'rm -rf "$dir"' EXIT
trap 'exit 129' HUP
trap 'exit 143' TERM
tar -xmf - -C "$dir" || exit
step 'installing'
echo "$token" | root sh "$dir/install.sh" join - --daemon off{RANGES} || exit
step 'starting the agent with the machine'
root /usr/local/bin/nmk service install agent >&2 || :
echo '{ANSWER}'
root /usr/local/bin/nmk service status agent -o json &&
	root /usr/local/bin/nmk status -o json -n """


@dataclass(frozen=True, slots=True)
class Outcome:
    """How an invitation ended: with a node, or with a problem and a hint what to do about it.

    `kept_by` is what checks in from now on: systemd, openrc, cron; None where nothing does.
    """

    machine: str
    node: str | None = None
    addresses: tuple[str, ...] = ()
    kept_by: str | None = None
    problem: str | None = None
    hint: str | None = None


def parse_machine(text: str) -> str:
    """USER@HOST or what else ssh takes as a destination. Raises BadInput that quotes it."""
    if not text or text.startswith("-") or not text.isprintable() or " " in text:
        raise BadInput(f"{quote(text)} is no machine", "write it like root@web.example.net")
    return text


def render_script(network: str, ranges: Sequence[str] = ()) -> str:
    """The shell script for a machine. Its input: a line with the token, then a tar archive.

    `ranges`: as `nmk join --range` takes them. On standard output it gives the two objects that
    `parse_answer` reads.
    """
    named = "".join(f" --range {shlex.quote(cidr)}" for cidr in ranges)
    script = _SCRIPT.replace("{ANSWER}", ANSWER).replace("{RANGES}", named)
    return script + shlex.quote(network) + "\n"


class Talk:
    """What a machine says on standard error: the step it is at, and why it failed."""

    def __init__(self) -> None:
        self._lines: list[str] = []
        self._muted = False
        self._begun = False

    def hear(self, line: str) -> str | None:
        """The step that a line tells of; None where it is none.

        Before the script's first step there are ssh's own words: of those the outcome tells.
        """
        text = "".join(c for c in line if c.isprintable())
        self._lines = [*self._lines[-50:], text]
        self._muted = not text.startswith(STEP) and (self._muted or text.startswith(_OWN_TALK))
        self._begun = self._begun or text.startswith(STEP)
        quiet = not self._begun or self._muted or text.lstrip().startswith(_HINT)
        return None if quiet else text.removeprefix(STEP).strip() or None

    def failure(
        self, machine: str, exit_code: int, options: Sequence[str] = (), own: Sequence[str] = ()
    ) -> tuple[str, str]:
        """What went wrong, and what to try: the machine's word for the one, ours for the other.

        `options`: those of ssh that the invitation has; `own`: those of `nmk invite`.
        """
        lines = [line for line in self._lines if line.strip()]
        if exit_code == SSH_FAILED:
            return explain_ssh(machine, lines, options, own)
        for line in reversed(lines):
            if line.startswith("nmk: "):
                return line.removeprefix("nmk: "), f"see more there: {by_hand(machine, options)}"
        last = lines[-1].strip() if lines else f"it ended with {exit_code} and does not say why"
        if last.startswith("sudo:"):
            return last, f"let this user run sudo without a password on {machine}, or invite root@"
        return last, by_hand(machine, options)


def by_hand(machine: str, options: Sequence[str], program: str = "ssh") -> str:
    """The command by which a person gets there as the invitation does."""
    return shlex.join([program, *(word for o in options for word in ("-o", o)), machine])


def explain_ssh(
    machine: str, lines: Sequence[str], options: Sequence[str] = (), own: Sequence[str] = ()
) -> tuple[str, str]:
    """Why ssh itself failed, and what to try."""
    text = "\n".join(lines)
    last = lines[-1].strip() if lines else "ssh does not say why it failed"
    ssh = by_hand(machine, options)
    if "IDENTIFICATION HAS CHANGED" in text:
        return "its host key is not the one that ssh knows", f"find out why, then: {ssh}"
    if "Host key verification failed" in text:
        again = shlex.join([*own, *(f"--ssh-option={o}" for o in options), machine])
        unseen = f"to trust it unseen: nmk invite --accept-new {again}"
        hint = f"{ssh}   (compare the key, say yes), then again; {unseen}"
        return "its host key is not known here", hint
    if "Permission denied" in last:
        return last, by_hand(machine, options, "ssh-copy-id")
    return last, ssh


def parse_answer(machine: str, text: str) -> Outcome:
    """What a machine that has joined says of itself. Raises BadInput where it does not."""
    try:
        said = text.rpartition(f"{ANSWER}\n")[2].lstrip()
        [service], end = read_first(said)
        [network], _ = read_first(said[end:].lstrip())
        return _joined(machine, service, network)
    except (ValueError, TypeError, KeyError):
        raise BadInput(f"{machine} does not say what it has become: {quote(text[:80])}") from None


def _joined(machine: str, service: dict[str, Any], network: dict[str, Any]) -> Outcome:
    kept = service["manager"] if service["installed"] and service["active"] else None
    addresses = tuple(str(address) for address in network["addresses"])
    return Outcome(machine, str(network["name"]), addresses, kept and str(kept))
