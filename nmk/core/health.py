"""Whether a pair of nodes is well, told from what one end's WireGuard counts.

WireGuard keeps a session for 180 s after a handshake and is silent where nobody has anything to
say. So no handshake is no trouble; packets that go out while nothing comes back are.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from nmk.core.amounts import FUTURE

SESSION_SECONDS = 180  # REJECT_AFTER_TIME: a session older than this carries nothing
ANSWER_SECONDS = 20  # an answer to data comes after 10 s at the latest (KEEPALIVE_TIMEOUT)
INITIATION_BYTES = 148  # the first message of a handshake; one goes out every 5 s (REKEY_TIMEOUT)
_PATIENCE = 3 * INITIATION_BYTES  # so much goes out unheard before a first handshake is late

State = Literal["connected", "idle", "trying", "waiting", "failed"]


@dataclass(frozen=True, slots=True)
class Counters:
    """What WireGuard says of a peer: bytes so far, and seconds since the last handshake.

    `handshake` is None before the first one, and negative where the clock was put back since.
    """

    handshake: int | None = None
    received: int = 0
    sent: int = 0


@dataclass(frozen=True, slots=True)
class Trail:
    """How a peer's counters went over several looks.

    `received`, `sent`: what they were when something came in last; `unanswered`: when more than
    that was seen to have gone out, in seconds of the caller's clock, None while it has not.
    """

    received: int
    sent: int
    unanswered: float | None = None


@dataclass(frozen=True, slots=True)
class Health:
    """A state, and what is wrong, None where nothing is.

    connected: there is a session. idle: none, and nobody needs one. trying: a first handshake is
    under way, or the last one is in the future, which tells nothing. waiting: only the peer can
    begin. failed: sent bytes grow, received ones do not.
    """

    state: State
    problem: str | None = None


def is_session(handshake: int | None) -> bool:
    """Whether a handshake of that age, as in `Counters`, means that there is a session."""
    return handshake is not None and 0 <= handshake < SESSION_SECONDS


def follow(before: Trail | None, now: Counters, clock: float) -> Trail:
    """The trail after one more look, at the time `clock`.

    Less than a handshake's first message does not count as sent: keepalives get no answer.
    """
    if before is None or now.received != before.received or now.sent < before.sent:
        return Trail(now.received, now.sent)
    if before.unanswered is None and now.sent - before.sent >= INITIATION_BYTES:
        return Trail(before.received, before.sent, clock)
    return before


def judge(
    now: Counters, *, endpoint: str | None, keepalive: int, unanswered: float | None = None
) -> Health:
    """How a pair is.

    `keepalive`: seconds, 0 where this end keeps silent when idle. `unanswered`: for how many
    seconds packets have been going out without an answer, where that was followed.
    """
    if unanswered is not None and unanswered >= ANSWER_SECONDS:
        return Health("failed", f"packets go out to {endpoint}, and nothing comes back")
    if is_session(now.handshake):
        return Health("connected")
    if endpoint is None:
        return Health("waiting", "no address of it is known: it has to call this machine")
    if now.handshake is None:
        return _judge_stranger(now, endpoint, keepalive)
    return _judge_late(now.handshake, endpoint) if keepalive else Health("idle")


def _judge_late(handshake: int, endpoint: str) -> Health:
    """How a pair is that should have a session and has none."""
    if handshake < 0:
        return Health("trying", f"its last handshake is {FUTURE}")
    return Health("failed", f"nothing comes back from {endpoint} any more")


def _judge_stranger(now: Counters, endpoint: str, keepalive: int) -> Health:
    """How a pair is that has never shaken hands."""
    if now.sent >= _PATIENCE and not now.received:
        return Health("failed", f"packets go out to {endpoint}, and it has never answered")
    return Health("trying" if keepalive or now.sent else "idle")
