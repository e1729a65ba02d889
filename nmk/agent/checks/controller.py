"""The controller, and this machine's clock beside the controller's."""

from __future__ import annotations

from collections.abc import Sequence

from nmk.agent import state
from nmk.agent.membership import Membership
from nmk.agent.reach import Visit
from nmk.core.amounts import show_age
from nmk.core.findings import Finding
from nmk.tools import clock_hint, fetch_hint

_TOLERANCE = 60  # seconds between two clocks, or between two looks at one


def check_controller(me: Membership, visits: Sequence[Visit]) -> list[Finding]:
    """At which of its URLs the controller answers."""
    silent = [f"{v.url} {v.problem}" for v in visits if v.problem]
    answers = [v.url for v in visits if not v.problem]
    looks = (fetch_hint(f"{visits[0].url}/healthz"), "on the controller: nmk server status")
    mend = "; ".join(filter(None, looks))
    if not answers:
        reason = f"{'; '.join(silent)}; the mesh goes on as it is"
        return [Finding("controller", "broken", reason, mend, me.network)]
    found = Finding("controller", "ok", f"{', '.join(answers)} answers", network=me.network)
    if silent:
        return [found, Finding("controller", "warn", "; ".join(silent), mend, me.network)]
    return [found]


def check_clock(me: Membership, visits: Sequence[Visit], now: float) -> list[Finding]:
    """The clock: near the controller's, and not before what this machine has done already.

    Peers refuse a handshake that is older than the last one they took (WireGuard's timestamps), so
    a clock that was put back cuts a machine off until it has caught up.
    """
    written = state.file_of(me.network).stat().st_mtime
    if written - now > _TOLERANCE:
        reason = (
            f"it is {show_age(int(written - now))} behind the time when this machine wrote its "
            "state: peers refuse its handshakes until then"
        )
        return [Finding("clock", "broken", reason, clock_hint(), me.network)]
    dates = [v.date for v in visits if v.date is not None]
    if not dates:
        reason = "no controller answers to compare it with"
        return [Finding("clock", "ok", reason, network=me.network)]
    ahead = int(now - dates[0])
    if abs(ahead) <= _TOLERANCE:
        return [Finding("clock", "ok", "as the controller's", network=me.network)]
    side = "ahead of" if ahead > 0 else "behind"
    reason = f"{show_age(abs(ahead))} {side} the controller's"
    return [Finding("clock", "warn", reason, clock_hint(), me.network)]
