"""The peers: who is silent, and what sizes of packets get through to those that are not."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

from nmk.agent.membership import Membership
from nmk.agent.status import Row
from nmk.core.findings import Finding, Level
from nmk.core.settings import NETWORK_SETTINGS
from nmk.core.tunnel import MARK
from nmk.system import echo, routes
from nmk.system.runner import Runner

MOST_PROBED = 8  # peers, those that shook hands last
_MOST_NAMED = 5
_STEP = 20  # bytes; so exactly is the size that fits found
_LOWEST = NETWORK_SETTINGS["mtu"].low
_AROUND = {4: 60, 6: 80}  # bytes that WireGuard adds to a packet, by the family it travels in
_TRIES = 2  # one packet may get lost anywhere


def check_peers(network: str, peers: Sequence[Row]) -> list[Finding]:
    """Whether peers answer. An idle pair has no handshake, and that is fine."""
    failed = [p for p in peers if p["state"] in {"failed", "silent"}]
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
        return [Finding("mtu", "warn", reason, "apt-get install iputils-ping", me.network)]
    near = [p for p in peers if p["state"] == "connected"]
    near = sorted(near, key=lambda p: int(p["handshake"]))[:MOST_PROBED]
    found = check_underlay(me.network, near, mtu, run)
    passes = partial(_passes, run, me.interface)
    answering = [p for p in near if passes(p["addresses"][0], None)]
    for peer in answering:
        address = peer["addresses"][0]
        if not passes(address, mtu):
            fits = largest(partial(passes, address), _LOWEST, mtu)
            return [*found, _too_large(me.network, peer["name"], mtu, fits)]
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


def largest(passes: Callable[[int], bool], low: int, high: int) -> int | None:
    """The largest size that passes, to within a step below; None where not even `low` does.

    `high` is known not to pass.
    """
    if not passes(low):
        return None
    while high - low > _STEP:
        middle = (low + high) // 2
        low, high = (middle, high) if passes(middle) else (low, middle)
    return low


def lower_mtu(network: str, fits: int) -> str:
    """The command that makes the tunnel's packets small enough."""
    return f"on the controller: nmk network set {network} mtu={max(fits, _LOWEST)}"


def _too_large(network: str, name: str, mtu: int, fits: int | None) -> Finding:
    passed = f"those of {fits} do" if fits else f"nor do those of {_LOWEST}"
    reason = f"packets of {mtu} bytes do not get to {name} and back, {passed}"
    return Finding("mtu", "broken", reason, lower_mtu(network, fits or _LOWEST), network)


def _passes(run: Runner, interface: str, address: str, size: int | None) -> bool:
    return any(
        echo.ping(run, interface, address, size=size, seconds=1).milliseconds is not None
        for _ in range(_TRIES)
    )
