"""The controller, and this machine's clock beside the controller's."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from errno import EADDRNOTAVAIL, EAFNOSUPPORT, ENETUNREACH
from ipaddress import ip_address, ip_interface
from os import strerror
from urllib.parse import urlsplit

from nmk.agent import state
from nmk.agent.claimed import claimed_controllers
from nmk.agent.membership import Membership
from nmk.agent.reach import Visit
from nmk.core.amounts import show_age
from nmk.core.findings import Finding
from nmk.system.facts import own_addresses
from nmk.system.runner import Runner
from nmk.tools import clock_hint, fetch_hint

# What connect(2) says of a family that leads nowhere, or is switched off.
_NO_WAY = tuple(map(strerror, (ENETUNREACH, EADDRNOTAVAIL, EAFNOSUPPORT)))
_TOLERANCE = 60  # seconds between two clocks, or between two looks at one


def check_controller(me: Membership, visits: Sequence[Visit]) -> list[Finding]:
    """At which of its URLs the controller answers."""
    silent = [v for v in visits if v.problem]
    answers = [v.url for v in visits if not v.problem]
    if not answers:
        reason = "; ".join(f"{v.url} {v.problem}" for v in silent)
        reason += "; the mesh goes on as it is"
        return [Finding("controller", "broken", reason, _look_hint(visits[0].url), me.network)]
    found = Finding(
        "controller",
        "ok",
        f"{', '.join(answers)} {'answers' if len(answers) == 1 else 'answer'}",
        network=me.network,
    )
    families = {ip_interface(a).version for a in own_addresses([me.interface])}
    return [found, *(_find_silent(me, visit, families) for visit in silent)]


def check_claimed(me: Membership, visits: Sequence[Visit], run: Runner) -> list[Finding]:
    """Whether a LAN has taken the address of a controller for itself that answers nowhere."""
    if not all(visit.problem for visit in visits):
        return []
    return [
        Finding("controller", "warn", one.message, one.hint, me.network)
        for one in claimed_controllers(me, me.urls, run)
    ]


def _find_silent(me: Membership, visit: Visit, families: Collection[int]) -> Finding:
    """One URL that does not answer, while another does."""
    family = _family(visit.url)
    if family and family not in families and f"{visit.problem}".endswith(_NO_WAY):
        reason = f"{visit.url} is not for this machine, which has no IPv{family} address"
        return Finding("controller", "ok", reason, network=me.network)
    reason = f"{visit.url} {visit.problem}"
    return Finding("controller", "warn", reason, _look_hint(visit.url), me.network)


def _family(url: str) -> int | None:
    """4 or 6 where the URL has an address; None where it has a name."""
    try:
        return ip_address(urlsplit(url).hostname or "").version
    except ValueError:
        return None


def _look_hint(url: str) -> str:
    looks = (fetch_hint(f"{url}/healthz"), "on the controller: nmk server status")
    return "; ".join(filter(None, looks))


def check_clock(me: Membership, visits: Sequence[Visit], now: float) -> list[Finding]:
    """The clock: near the controller's, and not before what this machine has done already.

    Peers refuse a handshake that is older than the last one they took (WireGuard's timestamps), so
    a clock that was put back cuts a machine off until it has caught up.
    """
    dates = [v.date for v in visits if v.date is not None]
    gap = int(state.file_of(me.network).stat().st_mtime - now)
    if gap > _TOLERANCE:
        is_right = bool(dates) and abs(now - dates[0]) <= _TOLERANCE
        return [_put_back(me.network, show_age(gap), is_right=is_right, is_known=bool(dates))]
    if not dates:
        reason = "no controller answers to compare it with"
        return [Finding("clock", "ok", reason, network=me.network)]
    ahead = int(now - dates[0])
    if abs(ahead) <= _TOLERANCE:
        return [Finding("clock", "ok", "as the controller's", network=me.network)]
    side = "ahead of" if ahead > 0 else "behind"
    reason = f"{show_age(abs(ahead))} {side} the controller's"
    return [Finding("clock", "warn", reason, clock_hint(), me.network)]


def _put_back(network: str, gap: str, *, is_right: bool, is_known: bool) -> Finding:
    """The clock was ahead until it was put back, or is behind; `is_known`: which of the two."""
    passes = f"it passes by itself, in {gap} at the latest"
    refused = "peers that it called meanwhile refuse its handshakes until then"
    if is_right:
        reason = f"it is right now, and was {gap} ahead: {refused}, and can call it themselves"
        return Finding("clock", "warn", reason, f"nothing: {passes}", network)
    reason = f"it is {gap} behind the time when this machine wrote its state: {refused}"
    if is_known:
        return Finding("clock", "broken", reason, clock_hint(), network)
    mend = f"look what it says: date; if that is wrong: {clock_hint()}; if right, {passes}"
    return Finding("clock", "broken", reason, mend, network)
