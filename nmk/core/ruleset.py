"""The network's own nft table: one text, replaced atomically, gone on leave (nft(8)).

It holds what a gateway forwards and translates, and that a machine which forwards for its own
reasons passes nothing on for the network; the mark that keeps WireGuard's and the agent's own
packets out of the tunnel, and what an exit node's user wants to be cut off from.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from ipaddress import collapse_addresses, ip_interface, ip_network

from nmk.core.gateways import Nat, is_translated
from nmk.core.links import CLOUDS, LINKS, is_lan
from nmk.core.parse import Range, overlap
from nmk.core.peers import View
from nmk.core.routes import RouteWishes, Routing
from nmk.core.tunnel import MARK

FORWARD = "forward"  # the chain of who forwards; it counts what no role leads on
KILL = ("kill-output", "kill-forward")
_SIGNS = ({"links", FORWARD}, {"premark"}, {"guard-output"}, {KILL[0]})  # of each table, one
_FAMILY = {4: "ip", 6: "ip6"}
_LOCAL_PORTS = 32768  # the lowest that connections get (kernel: ip-sysctl, ip_local_port_range)


@dataclass(frozen=True, slots=True)
class Own:
    """What only this machine knows: names of the table and the interface, the LANs that it is in.

    `meshes`: the interfaces of its other networks; `closed`: those of them by which nothing may
    come to be forwarded; `forwards`: its kernel does, whether or not the network has it so.
    """

    table: str
    interface: str
    subnets: tuple[str, ...] = ()
    meshes: tuple[str, ...] = ()
    closed: tuple[str, ...] = ()
    forwards: bool = False


def render_ruleset(own: Own, view: View, routing: Routing, wishes: RouteWishes) -> str | None:
    """The content of the table; None where none is needed."""
    cut_off = wishes.kill_switch and wishes.exit_node is not None
    chains = [
        *(_forward_chains(own, view) if view.gateway.roles or own.forwards else ()),
        *(_mark_chains(own, view, cut_off=cut_off) if routing.table else ()),
        *(_guard_chains(own, view) if wishes.guarded else ()),
        *(_inbound_chains(own, view) if routing.exit else ()),
        *(_kill_chains(own, view) if cut_off else ()),
    ]
    if not chains:
        return None
    body = "\n".join(
        f"\tchain {name} {{\n" + "".join(f"\t\t{line}\n" for line in lines) + "\t}"
        for name, lines in chains
    )
    return f"table inet {own.table} {{\n{body}\n}}\n"


def is_ours(listing: str) -> bool:
    """Whether a table was made by `render_ruleset`, of this version or of 0.2.0, by what is in it.

    A gateway of 0.2.0 has no chain that another program would not have as well.
    """
    found = {line.split()[1] for line in listing.splitlines() if line.startswith("\tchain ")}
    return any(sign <= found for sign in _SIGNS) or "icmpv6 type nd-redirect drop" in listing


Chains = Iterator[tuple[str, list[str]]]


def _forward_chains(own: Own, view: View) -> Chains:
    """What comes out of the tunnel goes where the roles lead, and nowhere else.

    Segments are made to fit the tunnel (RFC 4459, 3.2). No redirects: all peers are on one link,
    yet not neighbours.
    """
    tunnel = f'"{own.interface}"'
    yield "links", _link_lines(own, view)
    yield (
        FORWARD,
        [
            "type filter hook forward priority filter; policy accept;",
            f"oifname {tunnel} tcp flags syn / syn,rst tcp option maxseg size set rt mtu",
            *_forward_lines(own, view),
            *_role_lines(own, view),
            "counter drop",
        ],
    )
    if nat := [*_nat_lines(own, view)]:
        yield "postrouting", ["type nat hook postrouting priority srcnat; policy accept;", *nat]
    if mapped := _mapped(view):
        yield (
            "prerouting",
            [
                "type nat hook prerouting priority dstnat; policy accept;",
                *(
                    f"iifname {tunnel} {family} daddr {cidr} dnat {family} prefix to {lan}"
                    for family, cidr, lan in mapped
                ),
            ],
        )
    yield (
        "output",
        [
            "type filter hook output priority filter; policy accept;",
            f"oifname {tunnel} icmp type redirect drop",
            f"oifname {tunnel} icmpv6 type nd-redirect drop",
        ],
    )


def _forward_lines(own: Own, view: View) -> list[str]:
    """What passes whatever the roles are, and what never does.

    What is answered and what the machine itself publishes passes, but nothing to or from its other
    networks. Nobody in a LAN gets in under an address of the mesh, or of what is behind others.
    What comes by a network that gives this machine no role is not forwarded because this one does.
    """
    tunnel = f'"{own.interface}"'
    near = _near(own, view)
    into = f"iifname != {tunnel} oifname {tunnel}"
    meshes = _names(*own.meshes)
    return [
        *([f"iifname {meshes} oifname {tunnel} drop"] if own.meshes else ()),
        *(f"{into} {family} saddr {ranges} drop" for family, ranges in _by_family(view.cidrs)),
        *(
            f"{into} {family} saddr {ranges}{near[family]} drop"
            for family, ranges in _by_family(_others(view))
        ),
        f"iifname != {_names(own.interface, *own.closed) if own.closed else tunnel} accept",
        *([f"oifname {meshes} drop"] if own.meshes else ()),
        *_kept_out(own, view),
        "ct state established,related accept",
        "ct status dnat accept",
        *([f"iifname {_names(*own.closed)} drop"] if own.closed else ()),
    ]


def _role_lines(own: Own, view: View) -> Iterator[str]:
    """Where each role leads."""
    roles = view.gateway
    if roles.ingress:
        yield f'oifname "{own.interface}" accept'
    if roles.egress:
        out = _out(own, roles.egress.interface)
        plain = [r for r in roles.egress.ranges if r not in roles.egress.mapped]
        for family, ranges in _by_family(plain):
            yield f"{out} {family} daddr {ranges} accept"
    if roles.exit:
        yield f"{_out(own, roles.exit.interface)} accept"


def _nat_lines(own: Own, view: View) -> Iterator[str]:
    """What gets another source on its way out."""
    roles = view.gateway
    if roles.egress:
        out = _out(own, roles.egress.interface)
        for family, ranges in _by_family(roles.egress.lans):
            for mesh in _translated(own, view, roles.egress.nat, family):
                yield f"{out} {mesh} {family} daddr {ranges} masquerade"
        for family, cidr, lan in _mapped(view):
            yield f'oifname "{own.interface}" {family} saddr {lan} snat {family} prefix to {cidr}'
    if roles.exit:
        out = _out(own, roles.exit.interface)
        for family in _FAMILY.values():
            for mesh in _translated(own, view, roles.exit.nat, family):
                yield f"{out} {mesh} masquerade"


def _link_lines(own: Own, view: View) -> list[str]:
    """Nothing from the tunnel reaches what is on this machine's links alone.

    Nor under the address that a mapped range gives it: dropped before any DNAT, so wherever that
    would lead.
    """
    kept = (*LINKS, *_clouds(own))
    kept += tuple(
        seen
        for cidr, lan in view.gateway.mapped.items()
        for one in kept
        if (seen := _seen_as(ip_network(one), ip_network(lan), ip_network(cidr)))
    )
    lines = ["type filter hook prerouting priority raw; policy accept;"]
    lines += [
        f'iifname "{own.interface}" {family} daddr {ranges} drop'
        for family, ranges in _by_family(kept)
    ]
    return [*lines, f'iifname "{own.interface}" ip saddr {LINKS[0]} drop']


def _mark_chains(own: Own, view: View, *, cut_off: bool) -> Chains:
    """Answers to marked packets carry the mark too: reverse path filters look the way up by it.

    Connections from outside all meshes are answered outside: both directions are marked as well,
    also of those that were there before this table. Not so where the machine is cut off: these
    would be a way out.
    """
    outside = f"iifname != {_names(own.interface, *own.meshes)}"
    called = f"{outside} ct mark 0 ct direction original fib daddr type local"
    yield (
        "premark",
        [
            "type filter hook prerouting priority mangle; policy accept;",
            f"ct mark {MARK:#x} meta mark set ct mark",
            *([] if cut_off else [f"{called} ct mark set {MARK:#x} meta mark set {MARK:#x}"]),
        ],
    )
    if not cut_off:
        yield (
            "answer",
            [
                "type route hook output priority mangle; policy accept;",
                f"ct mark {MARK:#x} meta mark set ct mark",
                *_answer_lines(own, view),
            ],
        )
    yield (
        "postmark",
        [
            "type filter hook postrouting priority mangle; policy accept;",
            f"meta mark {MARK:#x} ct mark set meta mark",
        ],
    )


def _answer_lines(own: Own, view: View) -> Iterator[str]:
    """What this machine says first in connections that were there before this table.

    One that was not followed until now is seen to begin here, but in the middle: from a port below
    those that connections of this machine's own get.
    """
    mark = f"ct mark set {MARK:#x} meta mark set {MARK:#x}"
    for beyond in _beyond(view):
        led = f'oifname "{own.interface}" {beyond} ct mark 0'
        yield f"{led} ct direction reply {mark}"
        yield f"{led} ct state new tcp flags & syn == 0x0 tcp sport < {_LOCAL_PORTS} {mark}"


def _beyond(view: View, side: str = "daddr") -> Iterator[str]:
    """The condition, of each family, for what is neither in the mesh nor in a range of it."""
    known = [*view.cidrs, *_others(view)]
    ranges = dict(_by_family(known))
    for version, family in _FAMILY.items():
        inside = ranges.get(family)
        yield f"{family} {side} != {inside}" if inside else f"meta nfproto ipv{version}"


def _guard_chains(own: Own, view: View) -> Chains:
    """Packets to and from this node's addresses in the mesh go by the mesh alone.

    Nobody in the LAN tries out what is in the tunnel (CVE-2019-14899), and connections that began
    in the tunnel do not go on beside it. An egress gateway is called, under these too, by the LANs
    that it routes, and by nobody else: no other role has anybody call by another way.
    """
    tunnel = f'"{own.interface}"'
    into = ["type filter hook prerouting priority raw; policy accept;"]
    out = ["type filter hook output priority filter; policy accept;"]
    if egress := view.gateway.egress:
        outside = f"!= {_names(own.interface, *own.meshes)}"
        by = f'"{egress.interface}"' if egress.interface else outside
        for family, ranges in _by_family(egress.lans):
            # From where its answers go: a source that somebody made up has another neighbour.
            into.append(f"iifname {by} {family} saddr {ranges} fib saddr . iif oif exists accept")
            out.append(f"oifname {by} {family} daddr {ranges} accept")
    for address in view.addresses:
        family = _FAMILY[ip_interface(address).version]
        into.append(f"iifname != {tunnel} {family} daddr {address} fib saddr type != local drop")
        out.append(f'oifname != {{ "lo", {tunnel} }} {family} saddr {address} drop')
    yield "guard-input", into
    yield "guard-output", out


def _inbound_chains(own: Own, view: View) -> Chains:
    """By the exit node come answers. What begins comes from the mesh and from ranges it routes."""
    begins = f'iifname "{own.interface}" ct state new'
    lines = [f"{begins} {beyond} drop" for beyond in _beyond(view, "saddr")]
    for hook in ("input", "forward"):
        head = f"type filter hook {hook} priority filter; policy accept;"
        yield f"inbound-{hook}", [head, *lines]


def _kill_chains(own: Own, view: View) -> Chains:
    """Nothing leaves but by the tunnel, for it, or to the LAN (and to get an address there).

    What is forwarded is never WireGuard's own, whatever mark it has from before. A LAN is what
    `is_lan` takes for one; whatever addresses it has, those of the mesh are not its own. The kernel
    finds its neighbours in other subnets too, or no router would be found.
    """
    near = [cidr for cidr in own.subnets if is_lan(cidr)]
    pass_ = [
        f"oifname {_names('lo', own.interface, *own.meshes)} accept",
        *(f"{family} daddr {ranges} drop" for family, ranges in _by_family(view.cidrs)),
        *(
            f"{family} daddr {ranges} accept"
            for family, ranges in _by_family((*near, *LINKS, *CLOUDS))
        ),
        "icmpv6 type { nd-neighbor-solicit, nd-neighbor-advert } accept",
        "udp sport 68 udp dport 67 accept",
        "udp sport 546 udp dport 547 accept",
    ]
    yield (
        KILL[0],
        [
            "type filter hook output priority filter; policy accept;",
            f"meta mark {MARK:#x} accept",
            *pass_,
            "drop",
        ],
    )
    yield (
        KILL[1],
        [
            "type filter hook forward priority filter; policy accept;",
            f'iifname "{own.interface}" accept',
            *pass_,
            "drop",
        ],
    )


def _out(own: Own, interface: str | None) -> str:
    return f'oifname "{interface}"' if interface else f'oifname != "{own.interface}"'


def _translated(own: Own, view: View, nat: Nat, family: str) -> Iterator[str]:
    """The condition for packets of the mesh that get the gateway's own address.

    Ranges of other gateways may hold LANs of this one, whose packets are none of the mesh.
    """
    sources = [cidr for cidr in (*view.cidrs, *_others(view)) if is_translated(nat, cidr)]
    near = _near(own, view)
    for found, ranges in _by_family(sources):
        if found == family:
            yield f"{family} saddr {ranges}{near[family]}"


def _near(own: Own, view: View) -> dict[str, str]:
    """The condition, of each family, for what is not from this machine's own LANs."""
    near = dict(_by_family((*own.subnets, *view.gateway.lans)))
    return {f: f" {f} saddr != {near[f]}" if f in near else "" for f in _FAMILY.values()}


def _others(view: View) -> list[str]:
    """The ranges outside the network that others lead to, as the network sees them."""
    ranges = [cidr for peer in view.peers.values() for cidr in peer.gateway.ranges]
    return [*ranges, *(cidr for client in view.clients.values() for cidr in client.ranges)]


def _mapped(view: View) -> list[tuple[str, str, str]]:
    """The family, what the network sees, and the LAN behind it, of each range mapped 1:1.

    Translated address by address (nft(8), NAT STATEMENTS, prefix), so a gateway that takes over
    maps what has begun at another in the same way. In the LAN nobody knows the range.
    """
    pairs = view.gateway.mapped.items()
    return [(_FAMILY[ip_network(cidr).version], cidr, lan) for cidr, lan in pairs]


def _kept_out(own: Own, view: View) -> list[str]:
    """What was meant for a mapped range goes to its LAN, or nowhere: not on to another site."""
    egress = view.gateway.egress
    if egress is None or not egress.mapped:
        return []
    tunnel = f'"{own.interface}"'
    stray = f'oifname != "{egress.interface}"' if egress.interface else f"oifname {tunnel}"
    return [
        f"iifname {tunnel} {stray} ct original {family} daddr {ranges} drop"
        for family, ranges in _by_family(tuple(egress.mapped))
    ]


def _seen_as(kept: Range, lan: Range, cidr: Range) -> str | None:
    """The part of a mapped range that leads to what is kept from the tunnel, if any does."""
    if not overlap(kept, lan):
        return None
    part = max(kept, lan, key=lambda r: r.prefixlen)
    start = int(cidr.network_address) + int(part.network_address) - int(lan.network_address)
    return f"{type(lan.network_address)(start)}/{part.prefixlen}"


def _clouds(own: Own) -> list[str]:
    """The addresses of clouds' services that are in no LAN of this machine."""
    lans = [ip_network(lan, strict=False) for lan in own.subnets]
    return [c for c in CLOUDS if not any(overlap(ip_network(c), lan) for lan in lans)]


def _names(*interfaces: str) -> str:
    """Interfaces as a set of nft's."""
    return "{ " + ", ".join(f'"{name}"' for name in interfaces) + " }"


def _by_family(cidrs: Sequence[str]) -> Iterator[tuple[str, str]]:
    """The families that occur, and their ranges as a set of nft's."""
    parsed = [ip_network(cidr, strict=False) for cidr in cidrs]
    for version, family in _FAMILY.items():
        found = [cidr for cidr in parsed if cidr.version == version]
        if found:
            yield family, f"{{ {', '.join(map(str, _collapsed(found)))} }}"


def _collapsed(cidrs: list[Range]) -> Iterable[Range]:
    """Without overlaps, which nft refuses."""
    return collapse_addresses(cidrs)  # type: ignore[type-var]  # of one family, as the caller sees to
