"""What a machine lacks, holds or keeps from being done: programs, files, interfaces, its state."""

from __future__ import annotations

from collections.abc import Mapping

from nmk.errors.base import EXIT_TEMPORARY, NmkError


class Locked(NmkError):
    """Another run of nmk holds the lock."""

    code, status, exit_code = "locked", 409, EXIT_TEMPORARY
    default_hint = "wait for the other run to end"


class CheckInUnderWay(Locked):
    """An earlier run of `nmk checkin --quiet` has not ended with the network: that goes on."""

    code = "check-in-under-way"
    default_hint = "wait for it; if it does not end: kill -KILL its process"


class Overtaken(Locked):
    """Another run of nmk left the network, or joined it anew, while this one waited."""

    code = "overtaken"
    default_hint = "nmk status"


class NotRoot(NmkError):
    """The command changes the machine and needs root."""

    code = "not-root"
    default_hint = "run it again as root"


class ToolMissing(NmkError):
    """A program that nmk drives is not installed."""

    code = "tool-missing"
    default_hint = "install it in this machine's own way"


class CommandFailed(NmkError):
    """A program that nmk drives said no. `said`: all that it wrote on standard error."""

    code = "command-failed"
    default_hint = "run the quoted command by hand to see more"
    said = ""


class CommandUnanswered(CommandFailed):
    """A program that nmk drives says nothing of what was asked: cut short, or it may not look."""


class BatchFailed(CommandFailed):
    """Of several lines that a command read, these failed: each with the reason."""

    def __init__(self, message: str, lines: Mapping[str, str]) -> None:
        super().__init__(message)
        self.lines = lines


class InterfaceTaken(NmkError):
    """The interface exists and is not ours."""

    code = "interface-taken"
    default_hint = "choose another with --interface"


class PortTaken(NmkError):
    """The UDP port asked for is in use."""

    code = "port-taken"
    default_hint = "leave --listen-port out and the next free one is taken"


class NoAnswer(NmkError):
    """A node does not answer pings through the mesh."""

    code = "no-answer"
    default_hint = "nmk doctor"


class NotJoined(NmkError):
    """This machine is not in that network, or in none."""

    code = "not-joined"
    default_hint = "nmk join -"


class AlreadyJoined(NmkError):
    """This machine is in that network already."""

    code = "already-joined"
    default_hint = "nmk status"


class StateDamaged(NmkError):
    """A state file does not parse."""

    code = "state-damaged"
    default_hint = "restore the file from a backup, or: nmk leave --force; then join again"


class StateNewer(StateDamaged):
    """A state file was written by a newer nmk."""

    code = "state-newer"
    default_hint = "use that newer nmk"


class FamilyOff(NmkError):
    """The machine's kernel has no IPv6, or its owner has switched it off."""

    code = "family-off"


class ExitUnusable(NmkError):
    """The exit node that the owner asked for is none: everything leaves openly, or not at all."""

    code = "exit-unusable"
    default_hint = "nmk status"


class OpenForwarding(NmkError):
    """The machine forwards, and nothing can be laid that keeps a network from what it reaches."""

    code = "open-forwarding"


class OpenLoopback(NmkError):
    """What listens on loopback alone can be reached, and nothing can be laid that keeps it shut."""

    code = "open-loopback"


class StateUnwritable(NmkError):
    """The state directory cannot be written."""

    code = "state-unwritable"
    default_hint = "make room or make it writable, or choose another place with NMK_STATE_DIR"


class NoteUnwritable(StateUnwritable):
    """What need not outlive a reboot cannot be noted; all that was asked for is done."""

    code = "note-unwritable"


class FileUnusable(NmkError):
    """A file or directory cannot be used, of which no other error tells more."""

    code = "file-unusable"
    default_hint = "look at that disk, and whose it is: df, mount, ls -ld"


class MachineUnfit(NmkError):
    """The machine lacks what any program needs: memory, threads, a clock that can be read."""

    code, status, exit_code = "machine-unfit", 503, EXIT_TEMPORARY
    default_hint = "look for what uses it up, and for a limit: ulimit -a, MemoryMax=, TasksMax="


class InternalError(NmkError):
    """A mistake in nmk, of which no code knows more."""

    code = "internal-error"
    default_hint = "NMK_DEBUG=1 with the same command"


class OutputFailed(NmkError):
    """What was to be printed could not be: closed, full, or nobody reads it.

    `broken`: by a pipe whose reader has gone, which tells nobody anything.
    """

    code = "output-failed"
    default_hint = "send the output to a terminal, or to a file on a disk with room"

    def __init__(self, message: str, hint: str | None = None, *, broken: bool = False) -> None:
        super().__init__(message, hint)
        self.broken = broken
