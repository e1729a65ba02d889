"""A WireGuard interface as a value: what we want, what is there, and how one becomes the other.

`compile_tunnel` says what is wanted, `diff_tunnel` names each difference to the live interface,
`plan_changes` turns the differences into as few commands as can be. Only what we own is compared:
an endpoint that has roamed is left alone.
"""

from __future__ import annotations

import base64
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from ipaddress import ip_interface, ip_network

from nmk.core.endpoints import choose_endpoint
from nmk.core.peers import View

_LEAST_IPV6 = 1280  # bytes: the MTU of any link that has IPv6 (RFC 8200, 5)
MARK = 0x6E6D6B  # "nmk"; of all networks' packets, as none shall run inside another
_WATCHED_KEEPALIVE = 25  # seconds, as wg(8) advises
NO_KEY = base64.b64encode(bytes(32)).decode()  # what wg(8) takes for no preshared key


@dataclass(frozen=True, slots=True)
class TunnelPeer:
    """A peer on the interface. `endpoint` None: it calls us, or WireGuard knows better.

    `preshared_key` is "" where there is none.
    """

    key: str
    allowed_ips: tuple[str, ...]
    keepalive: int = 0
    endpoint: str | None = None
    preshared_key: str = field(default="", repr=False)


@dataclass(frozen=True, slots=True)
class Tunnel:
    """An interface. `addresses` carry prefix lengths; `peers` are by public key.

    `private_key` is "" where a live interface has none yet. WireGuard's own packets carry `mark`.
    """

    interface: str
    private_key: str = field(repr=False)
    listen_port: int
    mtu: int
    addresses: tuple[str, ...]
    peers: Mapping[str, TunnelPeer]
    up: bool = True
    mark: int = MARK


@dataclass(frozen=True, slots=True)
class Own:
    """What only this machine knows of its interface.

    `lan`: the machine's addresses; `settings`: its own; `preshared`: keys shared with ext clients,
    by their public keys.
    """

    interface: str
    private_key: str = field(repr=False)
    listen_port: int
    lan: tuple[str, ...] = ()
    settings: Mapping[str, int] = field(default_factory=dict)
    preshared: Mapping[str, str] = field(default_factory=dict, repr=False)


@dataclass(frozen=True, slots=True)
class Change:
    """One difference between the wanted and the live interface, with a line for people."""

    what: str  # create, rename, configure, peer, remove-peer, address, remove-address, link, ...
    line: str
    subject: str = ""


@dataclass(frozen=True, slots=True)
class Command:
    """A command that changes the machine. `stdin` may hold secrets and is never shown."""

    argv: tuple[str, ...]
    stdin: str | None = field(default=None, repr=False)

    def __str__(self) -> str:
        shown = " ".join(self.argv)
        return f"{shown} < (stdin)" if self.stdin and self.argv[0] == "wg" else shown


def compile_tunnel(
    view: View,
    own: Own,
    ranges: Mapping[str, tuple[str, ...]],
    left_out: Collection[str] = (),
    watched: Collection[str] = (),
) -> Tunnel:
    """What the interface should be. `ranges`: what else is sent to peers and ext clients, by ids.

    `watched`: ids of peers that must be heard of to know how they are, so kept alive in any case.
    `left_out`: addresses of the network that are somebody else's here. A peer that has no other
    is left out too: with such an address it could pass for him.
    """
    settings = {**view.settings, **own.settings}
    prefixes = {r.version: r.prefixlen for r in map(ip_network, view.cidrs)}
    peers = {}
    for peer in view.peers.values():
        allowed_ips = host_ranges(a for a in peer.addresses if a not in left_out)
        if not allowed_ips:
            continue
        chosen = choose_endpoint(
            own.lan, view.observed, peer.static, peer.lan, peer.observed, peer.port
        )
        peers[peer.key] = TunnelPeer(
            key=peer.key,
            allowed_ips=tuple(sorted({*allowed_ips, *ranges.get(peer.id, ())})),
            keepalive=settings["keepalive"] or (_WATCHED_KEEPALIVE if peer.id in watched else 0),
            endpoint=chosen[1] if chosen else None,
        )
    return Tunnel(
        interface=own.interface,
        private_key=own.private_key,
        listen_port=own.listen_port,
        mtu=settings["mtu"],
        addresses=tuple(
            f"{a}/{prefixes[ip_interface(a).version]}" for a in view.addresses if a not in left_out
        ),
        peers={**peers, **_own_clients(view, own, ranges, left_out)},
    )


def _own_clients(
    view: View, own: Own, ranges: Mapping[str, tuple[str, ...]], left_out: Collection[str]
) -> dict[str, TunnelPeer]:
    """The ext clients that this node lets in. They call it: no endpoint, no keepalives."""
    if view.gateway.ingress is None:
        return {}
    found = {}
    for client in view.clients.values():
        allowed_ips = host_ranges(a for a in client.addresses if a not in left_out)
        if client.via == view.id and allowed_ips:
            allowed_ips = tuple(sorted({*allowed_ips, *ranges.get(client.id, ())}))
            preshared = own.preshared.get(client.key, "")
            found[client.key] = TunnelPeer(client.key, allowed_ips, preshared_key=preshared)
    return found


def host_ranges(addresses: Iterable[str]) -> tuple[str, ...]:
    """The addresses as the single-host ranges that `wg` calls allowed-ips, sorted."""
    return tuple(sorted(f"{a}/128" if ":" in a else f"{a}/32" for a in addresses))


def diff_tunnel(want: Tunnel, live: Tunnel | None, set_before: Mapping[str, str]) -> list[Change]:
    """The changes that turn `live` (None: no such interface) into `want`; empty when they agree.

    `set_before`: the endpoint that we last gave each peer. WireGuard follows a peer that roams, so
    a live endpoint is only overwritten when our own choice has changed.
    """
    changes = []
    if live is None:
        changes.append(Change("create", f"create {want.interface}"))
        live = Tunnel(want.interface, "", 0, 0, (), {}, up=False, mark=0)
    if (live.private_key, live.listen_port, live.mark) != (
        want.private_key,
        want.listen_port,
        want.mark,
    ):
        changes.append(Change("configure", f"listen on UDP {want.listen_port}"))
    changes += diff_peers(want.peers, live.peers, set_before)
    changes += diff_addresses(want.addresses, live.addresses)
    if live.mtu != want.mtu or not live.up:
        changes.append(Change("link", f"set MTU {want.mtu}, up"))
    return changes


def diff_peers(
    want: Mapping[str, TunnelPeer], live: Mapping[str, TunnelPeer], set_before: Mapping[str, str]
) -> list[Change]:
    """Peers to add, to change and to remove, each kind in the order of the keys."""
    added = [
        Change("peer", f"add peer {_describe(p)}", k)
        for k, p in sorted(want.items())
        if k not in live
    ]
    changed = [
        Change("peer", f"change peer {_describe(p)}", k)
        for k, p in sorted(want.items())
        if k in live and not _agree(p, live[k], set_before)
    ]
    gone = sorted(live.keys() - want.keys())
    return added + changed + [Change("remove-peer", f"remove peer {k}", k) for k in gone]


def diff_addresses(want: tuple[str, ...], live: tuple[str, ...]) -> list[Change]:
    """Addresses to add, and all others to remove: each leads its whole range into the tunnel.

    But for link-local ones, which the kernel gives.
    """
    missing = sorted(set(want) - set(live))
    extra = [a for a in sorted(set(live) - set(want)) if not ip_interface(a).is_link_local]
    return [Change("address", f"add address {a}", a) for a in missing] + [
        Change("remove-address", f"remove address {a}", a) for a in extra
    ]


def plan_changes(
    want: Tunnel,
    live: Tunnel | None,
    changes: list[Change],
    set_before: Mapping[str, str],
    create: tuple[str, ...],
) -> list[Command]:
    """The commands for the changes: at most four, however many peers. `create` makes the interface.

    Peers that only come or change are added to what is there (`wg addconf`); anything else
    replaces the configuration whole (`wg syncconf`), which keeps the sessions of those that stay.
    """
    kinds = {c.what for c in changes}
    commands = [Command(create)] if "create" in kinds else []
    if kinds & {"create", "configure", "remove-peer"}:
        text = render_config(want, live, set_before)
        commands.append(Command(("wg", "syncconf", want.interface, "/dev/stdin"), text))
    elif "peer" in kinds:
        keys = [c.subject for c in changes if c.what == "peer"]
        text = "\n".join(_render_peer(want.peers[k], live, set_before) for k in keys)
        commands.append(Command(("wg", "addconf", want.interface, "/dev/stdin"), text))
    batch = [
        f"address {verb} {c.subject} dev {want.interface}"
        # Removed first: beside an older address of its range a new one would be a secondary one,
        # and the kernel removes those with the older one.
        for kind, verb in (("remove-address", "del"), ("address", "add"))
        for c in changes
        if c.what == kind
    ]
    if "link" in kinds:
        # Before the addresses where it has been too narrow for IPv6, which it has not got then.
        place = 0 if live and live.mtu < _LEAST_IPV6 else len(batch)
        batch.insert(place, f"link set dev {want.interface} mtu {want.mtu} up")
    if batch:
        # -force: on a machine without IPv6 the lines of IPv4 are carried out all the same.
        commands.append(Command(("ip", "-force", "-batch", "-"), "\n".join(batch) + "\n"))
    return commands


def render_config(want: Tunnel, live: Tunnel | None, set_before: Mapping[str, str]) -> str:
    """The interface's configuration for `wg syncconf` (wg(8), configuration file format)."""
    head = (
        f"[Interface]\nPrivateKey = {want.private_key}\nListenPort = {want.listen_port}\n"
        f"FwMark = {want.mark:#x}\n"
    )
    peers = (_render_peer(p, live, set_before) for _, p in sorted(want.peers.items()))
    return head + "".join(f"\n{peer}" for peer in peers)


def peer_sections(config: str) -> list[str]:
    """The peers in what `plan_changes` has for `wg`, each a configuration of its own."""
    return [f"[Peer]\n{text}" for text in config.split("[Peer]\n")[1:]]


def without_endpoint(section: str) -> str:
    """A peer's section without the endpoint."""
    lines = section.splitlines(keepends=True)
    return "".join(line for line in lines if not line.startswith("Endpoint"))


def render_quick(want: Tunnel) -> str:
    """A file for `wg-quick up` that makes the same interface without nmk (wg-quick(8))."""
    return (
        f"[Interface]\nPrivateKey = {want.private_key}\nListenPort = {want.listen_port}\n"
        f"Address = {', '.join(want.addresses)}\nMTU = {want.mtu}\n"
    ) + "".join(f"\n{_render_peer(p, None, {})}" for _, p in sorted(want.peers.items()))


def _render_peer(peer: TunnelPeer, live: Tunnel | None, set_before: Mapping[str, str]) -> str:
    before = live.peers.get(peer.key) if live else None
    lines = ["[Peer]", f"PublicKey = {peer.key}", f"AllowedIPs = {', '.join(peer.allowed_ips)}"]
    if peer.endpoint and (before is None or _new_endpoint(peer, before, set_before)):
        lines.append(f"Endpoint = {peer.endpoint}")
    lines.append(f"PersistentKeepalive = {peer.keepalive}")
    if peer.preshared_key or (before and before.preshared_key):
        lines.append(f"PresharedKey = {peer.preshared_key or NO_KEY}")
    return "\n".join(lines) + "\n"


def _agree(want: TunnelPeer, live: TunnelPeer, set_before: Mapping[str, str]) -> bool:
    same = (want.allowed_ips, want.keepalive, want.preshared_key) == (
        live.allowed_ips,
        live.keepalive,
        live.preshared_key,
    )
    return same and not _new_endpoint(want, live, set_before)


def _new_endpoint(peer: TunnelPeer, before: TunnelPeer, set_before: Mapping[str, str]) -> bool:
    if peer.endpoint is None:
        return False
    return before.endpoint is None or set_before.get(peer.key) != peer.endpoint


def _describe(peer: TunnelPeer) -> str:
    return f"{peer.key} ({', '.join(peer.allowed_ips)}) at {peer.endpoint or 'no known endpoint'}"
