"""What `nmk doctor` finds, as a value."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Level = Literal["ok", "warn", "broken"]


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at: how it is, why, and the command that mends it.

    broken: something does not work until it is mended. warn: it works, with a loss or a risk, or
    it could not be looked at. `network` is None for what concerns the whole machine.
    """

    check: str
    level: Level
    reason: str
    mend: str | None = None
    network: str | None = None


def is_broken(findings: list[Finding]) -> bool:
    """Whether a person is needed."""
    return any(f.level == "broken" for f in findings)
