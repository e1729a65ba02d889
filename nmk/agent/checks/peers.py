"""The peers: who is silent, and what sizes of packets get through to those that are not."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

from nmk.agent.membership import Membership
from nmk.agent.peer_status import UNHEARD, Row
from nmk.core.findings import Finding, Level
from nmk.core.settings import NETWORK_SETTINGS
from nmk.core.tunnel import MARK
from nmk.system import echo, routes
from nmk.system.runner import Runner
from nmk.tools import install_hint

MOST_PROBED = 8  # peers, those that shook hands last
_MOST_NAMED = 5
_STEP = 20  # bytes; so exactly is the size that fits found
_LOWEST = NETWORK_SETTINGS["mtu"].low
_AROUND = {4: 60, 6: 80}  # bytes that WireGuard adds to a packet, by the family it travels in
_TRIES = 2  # one packet may get lost anywhere


def check_peers(network: str, peers: Sequence[Row]) -> list[Finding]:
    """Whether peers answer. An idle pair has no handshake, and that is fine."""
    amiss = [p for p in peers if p["problem"] not in {None, UNHEARD}]
    failed = [p for p in amiss if p["state"] != "waiting"]
    in_touch = sum(p["state"] == "connected" for p in peers)
    others = len(peers) - in_touch - len(failed)
    counted = f"{in_touch} of {len(peers)} peers in touch, {others} idle"
    if not failed:
        return [Finding("peers", "ok", counted, network=network)]
    named = "; ".join(f"{p['name']}: {p['problem']}" for p in failed[:_MOST_NAMED])
    more = len(failed) - _MOST_NAMED
    reason = f"{counted}, {len(failed)} silent. {named}{f'; and {more} more' if more > 0 else ''}"
    # One silent peer may be switched off; where all are silent, this machine is to blame.
    level: Level = "broken" if in_touch == 0 else "warn"
    return [Finding("peers", level, reason, failed[0]["next"], network)]


def check_mtu(me: Membership, peers: Sequence[Row], mtu: int, run: Runner) -> list[Finding]:
    """Whether packets of the tunnel's full size arrive. `mtu`: the interface's, in bytes."""
    if not echo.can_size(run):
        reason = "this ping cannot send packets of a given size"
        return [Finding("mtu", "warn", reason, install_hint("ping"), me.network)]
    near = [p for p in peers if p["state"] == "connected"]
    near = sorted(near, key=lambda p: int(p["handshake"]))[:MOST_PROBED]
    found = check_underlay(me.network, near, mtu, run)
    passes = partial(_passes, run, me.interface)
    answering = []
    for peer in near:
        size = find_size(partial(passes, peer["addresses"][0]), mtu)
        if size == mtu:
            answering.append(peer)
        elif size is not None:
            return [*found, _too_large(me.network, peer, mtu, size)]
    if not answering:
        reason = f"{mtu}; nobody in touch answers pings to try it with"
        return [*found, Finding("mtu", "ok", reason, network=me.network)]
    names = ", ".join(p["name"] for p in answering)
    reason = f"packets of {mtu} bytes get to {names} and back"
    return [*found, Finding("mtu", "ok", reason, network=me.network)]


def check_underlay(network: str, peers: Sequence[Row], mtu: int, run: Runner) -> list[Finding]:
    """Interfaces below the tunnel that are too narrow for its full packets."""
    found = {}
    for peer in peers:
        host = str(peer["endpoint"]).rpartition(":")[0].strip("[]")
        way = routes.way_to(run, host, MARK)
        around = _AROUND[6 if ":" in host else 4]
        if way and way.mtu < mtu + around:
            fits = way.mtu - around
            reason = (
                f"{way.interface} takes {way.mtu} bytes, and packets to {peer['name']} have up to "
                f"{mtu + around}: they are cut in pieces"
            )
            mend = lower_mtu(network, fits)
            found[way.interface] = Finding("mtu", "warn", reason, mend, network)
    return list(found.values())


def find_size(passes: Callable[[int | None], bool], mtu: int) -> int | None:
    """The largest packet that gets to a peer and back, up to `mtu` bytes, to within a step below.

    0 where not even the least MTU of a tunnel does, but a ping of an ordinary size: None where that
    does not either, or no more, as of a peer that has gone away meanwhile. `passes` sends a ping of
    that size, None for an ordinary one.
    """
    if not passes(None):
        return None
    if passes(mtu):
        return mtu
    found = largest(passes, _LOWEST, mtu) if mtu > _LOWEST and passes(_LOWEST) else 0
    return found if passes(None) else None


def largest(passes: Callable[[int], bool], low: int, high: int) -> int:
    """The largest size that passes, to within a step below. `low` does, `high` does not."""
    while high - low > _STEP:
        middle = (low + high) // 2
        low, high = (middle, high) if passes(middle) else (low, middle)
    return low


def lower_mtu(network: str, fits: int) -> str:
    """The command that makes the tunnel's packets small enough."""
    return f"on the controller: nmk network set {network} mtu={max(fits, _LOWEST)}"


def _too_large(network: str, peer: Row, mtu: int, fits: int) -> Finding:
    reason = f"packets of {mtu} bytes do not get to {peer['name']} and back"
    if fits:
        mend = lower_mtu(network, fits)
        return Finding("mtu", "broken", f"{reason}, those of {fits} do", mend, network)
    reason += f", nor do those of {_LOWEST}, the least MTU of a tunnel; small ones do"
    host = str(peer["endpoint"]).rpartition(":")[0].strip("[]")
    mend = f"look at what drops large packets on the way: ping -M do -s {_LOWEST} {host}"
    return Finding("mtu", "broken", reason, mend, network)


def _passes(run: Runner, interface: str, address: str, size: int | None) -> bool:
    return any(
        echo.ping(run, interface, address, size=size, seconds=1).milliseconds is not None
        for _ in range(_TRIES)
    )
