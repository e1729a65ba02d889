"""Addresses outside that a LAN of this machine has taken for its own, by what it hands out.

Who runs a LAN says by DHCP or router advertisements what is in it (RFC 2131, RFC 4861): packets to
a controller or an exit node end there when their addresses are named. Only looked at where these
are silent: they may well be in the LAN.
"""

from __future__ import annotations

import socket
from collections.abc import Collection, Iterable
from contextlib import suppress
from ipaddress import ip_interface, ip_network
from urllib.parse import urlsplit

from nmk.agent.membership import Membership
from nmk.agent.resolver import resolve
from nmk.agent.settings import route_wishes
from nmk.core.claims import Claim, Holders
from nmk.core.commands import command
from nmk.core.problems import Problem, printable
from nmk.system import routes
from nmk.system.runner import Runner
from nmk.tools import has_tool

_SECONDS = 2.0  # for a name to be resolved


def claimed_controllers(me: Membership, urls: Iterable[str], run: Runner) -> list[Problem]:
    """Which of these, silent, are in a LAN of this machine. Raises CommandFailed."""
    hosts = []
    for url in urls:
        with suppress(OSError, UnicodeError):
            found = resolve(urlsplit(url).hostname or "", 0, socket.SOCK_STREAM, _SECONDS)
            hosts += [str(info[4][0]).partition("%")[0] for info in found]
    return _claimed(me, "the controller", hosts, (), run)


def claimed_exit(me: Membership, silent: Collection[str], run: Runner) -> list[Problem]:
    """The same of the exit node, where it is among the `silent`, ids of peers."""
    peers = me.known.view.peers.values() if me.known else ()
    wish = route_wishes(me).exit_node
    found = []
    for peer in (p for p in peers if p.name == wish and p.id in silent):
        static = [peer.static.rpartition(":")[0].strip("[]")] if peer.static else []
        found += _claimed(me, f"the exit node {wish}", (*static, *peer.observed), peer.lan, run)
    return found


def _claimed(
    me: Membership, who: str, hosts: Iterable[str], lan: Iterable[str], run: Runner
) -> list[Problem]:
    """`lan`: addresses of its machine, by which it is in a LAN of ours as it says itself."""
    if not has_tool("ip"):  # which alone could tell
        return []
    there = {str(ip_interface(address).network) for address in lan}
    places = [p for p in routes.places(run, me.interface) if p.cidr not in there]
    holders = Holders(Claim(place.cidr, place.interface) for place in places)
    found = []
    for host in dict.fromkeys(hosts):
        claim = holders.find(ip_network(host))
        if claim:
            line = (
                f"{who} is silent, and the LAN at {claim.owner} claims its address: {host} is in "
                f"{claim.range}"
            )
            hint = (
                f"if it is not in that LAN, leave the LAN at {command(claim.owner)}; "
                f"to see: ip route get {host}"
            )
            found.append(Problem("claimed", printable(line), printable(hint)))
    return found
