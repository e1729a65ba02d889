"""Taking over a WireGuard hub of this machine: its key, its port, its clients as they are.

The hub's private key and the keys that it shares with clients go from its file into the state of
the network, on this machine's disk, and nowhere else. Cut short, it can be repeated.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from ipaddress import ip_interface, ip_network
from typing import Any

from nmk.agent import interface, state
from nmk.agent.desired import desired_when_down
from nmk.agent.hub_file import SUFFIX, HubFile, put_aside
from nmk.agent.hub_ways import Lost, Ways, look_at_ways
from nmk.agent.lock import PERSON_SECONDS, RETURN_SECONDS, machine_lock
from nmk.agent.membership import Membership
from nmk.agent.tick import check_in_network, still_there
from nmk.core.hub_clients import Hub, fit_hub
from nmk.core.quick import HubConfig, InUse
from nmk.core.tunnel import Command
from nmk.errors import BadInput, NmkError, NotJoined, PortTaken
from nmk.system import ports, wireguard
from nmk.system.dump import Dump
from nmk.system.keys import public_key
from nmk.system.runner import Runner
from nmk.tools import has_tool, systemd_runs

Json = dict[str, Any]
Say = Callable[[str], None]
_AT_ONCE = 500  # clients in one command


def in_use(file: HubFile, run: Runner) -> InUse | None:
    """What the interface that the file is named for has, while it is up."""
    live = _look(file, run)
    return InUse(live.private_key, live.listen_port) if live else None


def hub_in(network: str, config: HubConfig) -> Hub:
    """The hub as it can be in the network. Raises NotJoined, BadInput."""
    me = _joined(network)
    assert me.known  # noqa: S101  # as it has joined
    _check_ranges(me, config)
    return fit_hub(config, me.known.view.cidrs, public_key(config.private_key))


def look_ahead(network: str, file: HubFile, config: HubConfig, run: Runner) -> Ways:
    """Where the hub leads its clients, and what of it would end; nothing where that cannot be seen.

    That is where it is not up, or has been taken over already. Rules that cannot be read are said
    to be so, and keep nobody from taking over.
    """
    me = _joined(network)
    live = _look(file, run)
    if live and live.private_key == config.private_key != me.private_key:
        unsaid = tuple(_unsaid(file, config, live))
        try:
            ways = look_at_ways(me, config, file.interface, run)
        except NmkError as error:
            what = f"perhaps what is behind {file.interface}: the rules here cannot be read"
            return Ways(None, (*unsaid, Lost(f"{what} ({error.message})", "nft list ruleset")))
        return replace(ways, lost=(*unsaid, *ways.lost))
    return Ways(None, ())


def _unsaid(file: HubFile, config: HubConfig, live: Dump) -> Iterator[Lost]:
    """What WireGuard was told of beside the file."""
    name = file.interface
    more = live.peers.keys() - {peer.public_key for peer in config.peers}
    if more:
        what = f"clients that {name} has and the file has not ({len(more)})"
        yield Lost(what, f"where the file is wg-quick's: wg-quick save {name}")
    if live.listen_port != config.listen_port:
        what = f"UDP port {live.listen_port}, where clients call {name}"
        yield Lost(
            what, f"ListenPort = {live.listen_port} in {file.path}, not {config.listen_port}"
        )


def _joined(network: str) -> Membership:
    me = state.load(network)
    if me.phase != "joined" or me.known is None:
        raise NotJoined(f"joining {network} did not come to its end", "nmk join -")
    return me


def is_here(network: str, file: HubFile, hub: Hub, run: Runner) -> bool:
    """Whether the hub is this machine's: it is up, or the node has its key already."""
    return state.load(network).private_key == hub.private_key or _is_up(file, hub, run)


def take_over(
    network: str, file: HubFile, hub: Hub, ask: Callable[[str, Json], Json], run: Runner, say: Say
) -> Json:
    """Make this machine the ingress gateway that the hub in the file was; the controller's answer.

    `ask` sends the request about a network to the admin API. Raises NotJoined, BadInput, PortTaken
    before anything has changed.
    """
    with machine_lock(run):
        me = _joined(network)
        assert me.known  # noqa: S101  # as it has joined
        own = _is_up(file, hub, run)
        if not own and me.private_key != hub.private_key:
            _check_port(file, hub, run)
        asked = request_of(me.known.view.name, hub)
    answer = ask(me.remote_name, asked)
    if run.dry:
        _tell(file, say, own=own)
        return answer
    with machine_lock(run, RETURN_SECONDS):
        me = still_there(me)
        if me.private_key != hub.private_key:
            me = interface.remove(me, run, keep=desired_when_down(me))
        taken = replace(
            me,
            private_key=hub.private_key,
            listen_port=hub.listen_port,
            wishes=replace(me.wishes, listen_port=hub.listen_port),
            preshared={c.public_key: c.preshared_key for c in hub.clients if c.preshared_key},
        )
        state.save(taken)
        endpoints = _endpoints(file, run) if own else {}
        if own:
            say(f"taking down {file.interface}")
            _take_down(file, run)
    after = check_in_network(network, run, PERSON_SECONDS)
    _call_clients(after, endpoints, run)
    if not file.aside:
        _put_aside(file, say)
    return answer


def request_of(node: str, hub: Hub) -> Json:
    """What the controller is told of a hub that a node is to be: nothing that is secret."""
    return {
        "node": node,
        "public_key": public_key(hub.private_key),
        "addresses": [str(ip_interface(a).ip) for a in hub.addresses],
        "lets_out": hub.translates,
        "clients": [
            {
                "name": c.name,
                "public_key": c.public_key,
                "addresses": list(c.addresses),
                "routes": list(c.routes),
            }
            for c in hub.clients
        ],
    }


def _check_ranges(me: Membership, hub: HubConfig) -> None:
    """Raises BadInput where the network has no address of the hub's of a family."""
    assert me.known  # noqa: S101  # checked by the caller
    ranges = [ip_network(c) for c in me.known.view.cidrs]
    own = [address for _, address in hub.addresses]
    inside = {a.version for a in own if any(a.version == r.version and a.ip in r for r in ranges)}
    outside = [a for a in own if a.version not in inside]
    if not outside:
        return
    name, told = me.remote_name, " ".join(hub.ranges)
    if not inside:
        other = f"{name}-hub"
        hint = (
            f"on the controller: nmk network create {other} {told}; nmk key create -n {other}; "
            f"here, with the token: nmk join -; then import with -n {other}"
        )
    else:  # a second network with the hub's ranges would overlap this one
        hint = (
            f"on the controller: nmk network delete {name}; nmk network create {name} {told}; then "
            f"join it here again; or take {outside[0].ip} out of the file"
        )
    raise BadInput(
        f"the hub has {outside[0].ip}, and {me.network} has "
        f"{', '.join(me.known.view.cidrs)}: its clients could not keep their addresses",
        hint,
    )


def _check_port(file: HubFile, hub: Hub, run: Runner) -> None:
    """Raises BadInput, PortTaken where something else than the hub has the hub's port."""
    if ports.is_free(hub.listen_port):
        return
    live = _look(file, run)
    if live and live.listen_port == hub.listen_port:
        raise BadInput(
            f"{file.interface} runs with another key than {file.path} has: its clients would not "
            "know this machine",
            f"put the one in use into the file: wg show {file.interface} private-key",
        )
    raise PortTaken(
        f"UDP port {hub.listen_port} is in use, and not by {file.interface} of this machine",
        "stop what serves the hub (a container?), then this again",
    )


def _is_up(file: HubFile, hub: Hub, run: Runner) -> bool:
    """Whether the hub's interface, named for its file, is up on this machine."""
    live = _look(file, run)
    return live is not None and live.private_key == hub.private_key


def _look(file: HubFile, run: Runner) -> Dump | None:
    """What WireGuard says of the interface; None where there is none."""
    if not wireguard.exists(file.interface):
        return None
    try:
        return wireguard.look(run, file.interface)
    except NmkError:
        return None


def _tell(file: HubFile, say: Say, *, own: bool) -> None:
    """What a dry run leaves undone on this machine."""
    if own:
        say(f"would take down {file.interface}")
    if not file.aside:
        say(f"would rename {file.path} to {file.path.name}{SUFFIX}")


def _endpoints(file: HubFile, run: Runner) -> dict[str, str]:
    """Where the hub's clients are, by their keys."""
    peers = wireguard.look(run, file.interface).peers
    return {key: live.peer.endpoint for key, live in peers.items() if live.peer.endpoint}


def _call_clients(me: Membership, endpoints: Mapping[str, str], run: Runner) -> None:
    """Shake hands with clients where the hub had them: they would notice only after 15 s.

    A keepalive makes WireGuard call at once; what has begun goes on when it is taken back.
    """
    live = interface.look(me, run)
    called = [key for key in live.peers if key in endpoints] if live else []
    for start in range(0, len(called), _AT_ONCE):
        for seconds in ("25", "0"):
            settings = [
                text
                for key in called[start : start + _AT_ONCE]
                for text in (
                    *("peer", key, "endpoint", endpoints[key]),
                    *("persistent-keepalive", seconds),
                )
            ]
            run.change(Command(("wg", "set", me.interface, *settings)))


def _take_down(file: HubFile, run: Runner) -> None:
    """By wg-quick where it is there, which undoes what else its file did."""
    if has_tool("wg-quick") and not file.aside:
        run.change(Command(("wg-quick", "down", str(file.path.absolute()))))
    else:
        wireguard.remove(run, file.interface)


def _put_aside(file: HubFile, say: Say) -> None:
    try:
        kept = put_aside(file.path)
    except OSError as error:
        say(
            f"note: {file.path} could not be renamed ({error.strerror}): see to it that nothing "
            "starts the hub again"
            + (f"\n  systemctl disable wg-quick@{file.interface}" if systemd_runs() else "")
        )
    else:
        say(f"{file.path} is {kept} now, so that nothing starts the hub again")
