"""The one tree of errors.

A class carries what every door needs: the stable code (JSON, `docs/errors.md`), the HTTP status,
the exit code and a hint, the next thing to do. An instance adds the message, which quotes the
culprit. No other exception is meant to reach a user.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

EXIT_FAILED = 1
EXIT_USAGE = 2
EXIT_TEMPORARY = 75  # sysexits(3) EX_TEMPFAIL: the same command may work later


class NmkError(Exception):
    """Something went wrong that a person or a script can act on."""

    code: ClassVar[str] = "failed"
    status: ClassVar[int] = 500
    exit_code: ClassVar[int] = EXIT_FAILED
    default_hint: ClassVar[str] = "nmk --help"

    def __init__(self, message: str, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint or self.default_hint


class BadInput(NmkError):
    """A value that does not parse or is out of its range."""

    code, status, exit_code = "bad-input", 400, EXIT_USAGE


class NotFound(NmkError):
    """No such network, node or key."""

    code, status = "not-found", 404


class NameTaken(NmkError):
    """A live object of this kind has the name already."""

    code, status = "name-taken", 409
    default_hint = "choose another name"


class RangeOverlaps(NmkError):
    """The range shares addresses with another network of this controller."""

    code, status = "range-overlaps", 409
    default_hint = "leave the range out and a free one is picked"


class RangeFull(NmkError):
    """Every address of the range is in use."""

    code, status = "range-full", 409
    default_hint = "nmk node delete NODE, for a machine that is gone"


class AddressTaken(NmkError):
    """The address asked for belongs to another node."""

    code, status = "address-taken", 409
    default_hint = "leave --address out and a free one is given"


class Stale(NmkError):
    """If-Match names a revision that is no longer current (RFC 9110, 13.1.1)."""

    code, status = "stale", 412
    default_hint = "look at it again, then repeat the change"


class StaleSequence(NmkError):
    """A report whose number has been used: a replay, a rolled-back disk or a copied identity."""

    code, status = "stale-sequence", 409
    default_hint = "nmk checkin"
    stored = 0  # the last number that was taken in


class TokenMalformed(NmkError):
    """The text is no join token, or only a part of one."""

    code, status, exit_code = "token-malformed", 400, EXIT_USAGE
    default_hint = "paste the whole token that `nmk key create` printed on the controller"


class KeyRefused(NmkError):
    """The access key is not one of this controller's, or its secret is wrong."""

    code, status = "key-refused", 403
    default_hint = "on the controller: nmk key create"


class KeyExpired(KeyRefused):
    """The access key's time is over."""

    code = "key-expired"


class KeyUsedUp(KeyRefused):
    """The access key has let in as many machines as it may."""

    code = "key-used-up"


class KeyRevoked(KeyRefused):
    """The access key was deleted."""

    code = "key-revoked"


class NodeDeleted(NmkError):
    """This identity's node was deleted on the controller. Final."""

    code, status = "node-deleted", 410
    default_hint = "nmk join -, with a new token; or nmk leave"


class NodeUnknown(NmkError):
    """The controller has no memory of this identity."""

    code, status = "node-unknown", 404
    default_hint = "join again with a new token: nmk join -"


class Unauthorized(NmkError):
    """The admin API wants a key that it did not get."""

    code, status = "unauthorized", 401
    default_hint = "set NMK_API_KEY to the content of admin.key in the controller's data directory"


class Unreadable(NmkError):
    """A sealed message that does not open: not ours, not for us, or changed on the way."""

    code, status = "unreadable", 400
    default_hint = "join with a token of the controller that now answers there"


class TooLarge(NmkError):
    """A message over the size limit."""

    code, status = "too-large", 413
    default_hint = "send less at once"


class RateLimited(NmkError):
    """Too many requests of strangers from one address."""

    code, status, exit_code = "rate-limited", 429, EXIT_TEMPORARY
    default_hint = "try again in a minute"


class Unreachable(NmkError):
    """Nothing answered at any of the URLs."""

    code, status, exit_code = "unreachable", 503, EXIT_TEMPORARY
    default_hint = "is `nmk server` running there, and its port open?"


class BadReply(NmkError):
    """What answered is no controller, or a broken one."""

    code, status, exit_code = "bad-reply", 502, EXIT_TEMPORARY
    default_hint = "is that URL nmk's node API, with no proxy page before it?"


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


class StoreUnavailable(NmkError):
    """The database cannot be read or written at the moment."""

    code, status, exit_code = "store-unavailable", 503, EXIT_TEMPORARY
    default_hint = "look at the controller's log, its disk and its database"


class StoreUnusable(NmkError):
    """The database is damaged, or from a newer nmk."""

    code = "store-unusable"
    default_hint = "start the nmk that wrote it, or restore a backup"


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


class BatchFailed(CommandFailed):
    """Of several lines that a command read, these failed: each with the reason."""

    def __init__(self, message: str, lines: Mapping[str, str]) -> None:
        super().__init__(message)
        self.lines = lines


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


class StateNewer(StateDamaged):
    """A state file was written by a newer nmk."""

    code = "state-newer"
    default_hint = "use that newer nmk"


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


class BadView(NmkError):
    """The controller told us something that we must not do."""

    code, status = "bad-view", 502
    default_hint = "the mesh stays as it was; look at the controller's network settings"


class RangesChanged(BadView):
    """The controller gives the network other ranges than those that this machine joined with."""

    code = "ranges-changed"
    default_hint = "nmk leave, then join again"


class RangesRefused(NmkError):
    """A network's ranges that this machine must not lead into a tunnel unless its owner says so."""

    code = "ranges-refused"
    default_hint = "nmk join - --range CIDR, if that is wanted"


class Ambiguous(NmkError):
    """More than one fits, and none was named."""

    code, status, exit_code = "ambiguous", 400, EXIT_USAGE
    default_hint = "name one with -n"


def all_errors() -> dict[str, type[NmkError]]:
    """Every error class by its code."""
    found: dict[str, type[NmkError]] = {}
    pending: list[type[NmkError]] = [NmkError]
    while pending:
        cls = pending.pop()
        found.setdefault(cls.code, cls)
        pending.extend(cls.__subclasses__())
    return found


def from_code(code: str, message: str, hint: str) -> NmkError:
    """The error that the other side reported, as an instance of the same class here.

    A code that this version does not know keeps its message and hint, as a plain failure.
    """
    return all_errors().get(code, NmkError)(message, hint)
