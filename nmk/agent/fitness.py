"""Whether the ranges of a network that this machine is about to join may come here."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from contextlib import suppress
from socket import SOCK_STREAM
from urllib.parse import urlsplit

from nmk.agent.claims import own_lans
from nmk.agent.membership import Membership
from nmk.agent.others import others_of
from nmk.agent.resolver import resolve
from nmk.core.claims import Claim
from nmk.core.fitness import find_objections
from nmk.errors import RangesRefused
from nmk.system import wireguard
from nmk.system.runner import Runner

_SECONDS = 5.0  # to resolve a controller's name


def check_ranges(me: Membership, wanted: Collection[str], run: Runner) -> None:
    """Raises RangesRefused where a range holds what this machine uses; not of those `wanted`."""
    others = others_of(me.network)
    objections = find_objections(
        (cidr for cidr in me.ranges if cidr not in wanted),
        [Claim(cidr, f"network {o.network}") for o in others for cidr in o.ranges],
        _lans(me, others, run),
        [*_controllers([me, *others]), *_endpoints(me, run)],
    )
    if objections:
        why = "; ".join(f"{cidr} is refused, as {reason}" for cidr, reason in objections.items())
        named = " ".join(f"--range {cidr}" for cidr in objections)
        raise RangesRefused(
            f"of the ranges of {me.network}, {why}",
            f"where that is wanted: nmk join - {named}; else: nmk leave -n {me.network}",
        )


def _lans(me: Membership, others: list[Membership], run: Runner) -> list[Claim]:
    """The machine's own subnets, but for that of a WireGuard hub which has the very range.

    Such a network is there to take the hub over, and leaves it all addresses until then.
    """
    tunnels = wireguard.names(run)
    lans = own_lans(me, others)
    return [lan for lan in lans if not (lan.owner in tunnels and lan.range in me.ranges)]


def _controllers(networks: Iterable[Membership]) -> Iterator[tuple[str, str]]:
    """The addresses of the controllers of these networks, as far as they can be told."""
    for url in dict.fromkeys(url for one in networks for url in one.urls):
        with suppress(OSError, UnicodeError):
            for *_, address in resolve(urlsplit(url).hostname or "", 0, SOCK_STREAM, _SECONDS):
                yield str(address[0]).partition("%")[0], f"the controller at {url}"


def _endpoints(me: Membership, run: Runner) -> Iterator[tuple[str, str]]:
    """Where other tunnels of this machine lead to."""
    for endpoint, interface in wireguard.endpoints(run).items():
        if interface != me.interface:
            address = endpoint.rpartition(":")[0].strip("[]").partition("%")[0]
            yield address, f"an endpoint of {interface}"
