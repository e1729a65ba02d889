"""Taking over a WireGuard hub of this machine: its key, its port, its clients as they are.

The hub's private key and the keys that it shares with clients go from its file into the state of
the network, on this machine's disk, and nowhere else. Cut short, it can be repeated.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from ipaddress import ip_interface, ip_network
from pathlib import Path
from typing import Any

from nmk.agent import interface, state
from nmk.agent.lock import locked
from nmk.agent.membership import Membership
from nmk.agent.places import state_directory
from nmk.agent.settings import local_settings
from nmk.agent.tick import api_of, keep, tick
from nmk.core.quick import Hub
from nmk.core.tunnel import Command
from nmk.errors import BadInput, NmkError, NotJoined, PortTaken
from nmk.system import ports, wireguard
from nmk.system.keys import public_key
from nmk.system.runner import Runner, has_tool

Json = dict[str, Any]
Say = Callable[[str], None]
SUFFIX = ".taken-over"


def take_over(
    network: str, path: Path, hub: Hub, ask: Callable[[str, Json], Json], run: Runner, say: Say
) -> Json:
    """Make this machine the ingress gateway that the hub in the file was; the controller's answer.

    `ask` sends the request about a network to the admin API. Raises NotJoined, BadInput, PortTaken
    before anything has changed.
    """
    with locked(state_directory()):
        me = state.load(network)
        if me.phase != "joined" or me.known is None:
            raise NotJoined(f"joining {network} did not come to its end", "nmk join -")
        _check_ranges(me, hub)
        own = _is_up(path, hub, run)
        if not own and me.private_key != hub.private_key and not ports.is_free(hub.listen_port):
            raise PortTaken(
                f"UDP port {hub.listen_port} is in use, and not by {path.stem} of this machine",
                "stop what serves the hub (a container?), then this again",
            )
        answer = ask(me.remote_name, _request(me, hub))
        if run.dry:
            return answer
        if me.private_key != hub.private_key:
            me = interface.remove(me, run)
        taken = replace(
            me,
            private_key=hub.private_key,
            listen_port=hub.listen_port,
            wishes=replace(me.wishes, listen_port=hub.listen_port),
            preshared={c.public_key: c.preshared_key for c in hub.clients if c.preshared_key},
        )
        state.save(taken)
        endpoints = _endpoints(path, run) if own else {}
        if own:
            say(f"taking down {path.stem}")
            _take_down(path, run)
        after = tick(taken, api_of(taken), run, local_settings(network, taken))
        keep(taken, after, run)
        _call_clients(after, endpoints, run)
    if path.suffix != SUFFIX:
        kept = path.with_name(path.name + SUFFIX)
        path.replace(kept)
        say(f"{path} is {kept} now, so that nothing starts the hub again")
    return answer


def _request(me: Membership, hub: Hub) -> Json:
    assert me.known  # noqa: S101  # checked by the caller
    return {
        "node": me.known.view.name,
        "public_key": public_key(hub.private_key),
        "addresses": [str(ip_interface(a).ip) for a in hub.addresses],
        "lets_out": hub.lets_out,
        "clients": [
            {"name": c.name, "public_key": c.public_key, "addresses": list(c.addresses)}
            for c in hub.clients
        ],
    }


def _check_ranges(me: Membership, hub: Hub) -> None:
    """Raises BadInput where the network has not the hub's addresses."""
    assert me.known  # noqa: S101  # checked by the caller
    ranges = [ip_network(c) for c in me.known.view.cidrs]
    for address in map(ip_interface, hub.addresses):
        if not any(address.version == r.version and address.ip in r for r in ranges):
            raise BadInput(
                f"the hub has {address.ip}, and {me.network} has "
                f"{', '.join(me.known.view.cidrs)}: its clients could not keep their addresses",
                f"nmk network create NAME {' '.join(hub.ranges)}, join it here, and import there",
            )


def _is_up(path: Path, hub: Hub, run: Runner) -> bool:
    """Whether the hub's interface, named for its file, is up on this machine."""
    try:
        return wireguard.exists(path.stem) and (
            wireguard.look(run, path.stem).private_key == hub.private_key
        )
    except NmkError:
        return False


def _endpoints(path: Path, run: Runner) -> dict[str, str]:
    """Where the hub's clients are, by their keys."""
    peers = wireguard.look(run, path.stem).peers
    return {key: live.peer.endpoint for key, live in peers.items() if live.peer.endpoint}


def _call_clients(me: Membership, endpoints: Mapping[str, str], run: Runner) -> None:
    """Shake hands with clients where the hub had them: they would notice only after 15 s.

    A keepalive makes WireGuard call at once; the next check-in takes it back.
    """
    known = me.known.view.clients.values() if me.known else ()
    for client in known:
        if client.key in endpoints:
            where = ("endpoint", endpoints[client.key], "persistent-keepalive", "25")
            run.change(Command(("wg", "set", me.interface, "peer", client.key, *where)))


def _take_down(path: Path, run: Runner) -> None:
    """By wg-quick where it is there, which undoes what else its file did."""
    if has_tool("wg-quick"):
        run.change(Command(("wg-quick", "down", str(path.absolute()))))
    else:
        wireguard.remove(run, path.stem)
