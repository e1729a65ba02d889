"""The one tree of errors.

A class carries what every door needs: the stable code (JSON, `docs/errors.md`), the HTTP status,
the exit code and a hint, the next thing to do. An instance adds the message, which quotes the
culprit. No other exception is meant to reach a user.
"""

from __future__ import annotations

from nmk.errors.base import EXIT_FAILED, EXIT_TEMPORARY, EXIT_USAGE, NmkError
from nmk.errors.machine import (
    AlreadyJoined,
    BatchFailed,
    CheckInUnderWay,
    CommandFailed,
    CommandUnanswered,
    ExitUnusable,
    FamilyOff,
    FileUnusable,
    InterfaceTaken,
    InternalError,
    Locked,
    MachineUnfit,
    NoAnswer,
    NoteUnwritable,
    NotJoined,
    NotRoot,
    OpenForwarding,
    OpenLoopback,
    OutputFailed,
    Overtaken,
    PortTaken,
    StateDamaged,
    StateNewer,
    StateUnwritable,
    ToolMissing,
)
from nmk.errors.requests import (
    AddressTaken,
    Ambiguous,
    BadInput,
    BadReply,
    BadView,
    KeyExpired,
    KeyRefused,
    KeyRevoked,
    KeyUsedUp,
    NameTaken,
    NodeDeleted,
    NodeUnknown,
    NotFound,
    RangeFull,
    RangeOverlaps,
    RangesChanged,
    RangesRefused,
    RateLimited,
    Stale,
    StaleSequence,
    StoreUnavailable,
    StoreUnusable,
    TokenMalformed,
    TooLarge,
    Unauthorized,
    Unreachable,
    Unreadable,
)

__all__ = [
    "EXIT_FAILED",
    "EXIT_TEMPORARY",
    "EXIT_USAGE",
    "AddressTaken",
    "AlreadyJoined",
    "Ambiguous",
    "BadInput",
    "BadReply",
    "BadView",
    "BatchFailed",
    "CheckInUnderWay",
    "CommandFailed",
    "CommandUnanswered",
    "ExitUnusable",
    "FamilyOff",
    "FileUnusable",
    "InterfaceTaken",
    "InternalError",
    "KeyExpired",
    "KeyRefused",
    "KeyRevoked",
    "KeyUsedUp",
    "Locked",
    "MachineUnfit",
    "NameTaken",
    "NmkError",
    "NoAnswer",
    "NodeDeleted",
    "NodeUnknown",
    "NotFound",
    "NotJoined",
    "NotRoot",
    "NoteUnwritable",
    "OpenForwarding",
    "OpenLoopback",
    "OutputFailed",
    "Overtaken",
    "PortTaken",
    "RangeFull",
    "RangeOverlaps",
    "RangesChanged",
    "RangesRefused",
    "RateLimited",
    "Stale",
    "StaleSequence",
    "StateDamaged",
    "StateNewer",
    "StateUnwritable",
    "StoreUnavailable",
    "StoreUnusable",
    "TokenMalformed",
    "TooLarge",
    "ToolMissing",
    "Unauthorized",
    "Unreachable",
    "Unreadable",
    "all_errors",
    "from_code",
]


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
