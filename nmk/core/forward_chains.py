"""The chains of a machine that forwards: what leads out of the tunnel and into it (nft(8))."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from ipaddress import ip_network

from nmk.core.gateways import Nat, is_translated
from nmk.core.links import CLOUDS, LINKS
from nmk.core.nft_text import FAMILY, Chains, Own, by_family, names, others, sources
from nmk.core.parse import Range, overlap
from nmk.core.peers import View

FORWARD = "forward"  # the chain of who forwards; it counts what no role leads on


def forward_chains(own: Own, view: View) -> Chains:
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
    networks. Nobody in a LAN gets in under an address of the mesh, or of what is behind others, but
    where this gateway routes the very LAN: who hands out addresses in a LAN may claim any for it.
    What comes by a network that gives this machine no role is not forwarded because this one does.
    """
    tunnel = f'"{own.interface}"'
    behind = others(view)
    own_lans = _but(view.gateway.lans)
    inner = [(i, c) for i, c in own.inner if any(_meet(c, other) for other in behind)]
    into = f"iifname != {tunnel} oifname {tunnel}"
    meshes = names(*own.meshes)
    return [
        *([f"iifname {meshes} oifname {tunnel} drop"] if own.meshes else ()),
        *(f"{into} {family} saddr {ranges} drop" for family, ranges in by_family(view.cidrs)),
        *(f"oifname {tunnel} {bridged} accept" for bridged in sources(inner)),
        *(
            f"{into} {family} saddr {ranges}{own_lans[family]} drop"
            for family, ranges in by_family(behind)
        ),
        f"iifname != {names(own.interface, *own.closed) if own.closed else tunnel} accept",
        *([f"oifname {meshes} drop"] if own.meshes else ()),
        *_kept_out(own, view),
        "ct state established,related accept",
        "ct status dnat accept",
        *([f"iifname {names(*own.closed)} drop"] if own.closed else ()),
    ]


def _role_lines(own: Own, view: View) -> Iterator[str]:
    """Where each role leads."""
    roles = view.gateway
    if roles.ingress:
        yield f'oifname "{own.interface}" accept'
    if roles.egress:
        out = _out(own, roles.egress.interface)
        plain = [r for r in roles.egress.ranges if r not in roles.egress.mapped]
        for family, ranges in by_family(plain):
            yield f"{out} {family} daddr {ranges} accept"
    if roles.exit:
        yield f"{_out(own, roles.exit.interface)} accept"


def _nat_lines(own: Own, view: View) -> Iterator[str]:
    """What gets another source on its way out."""
    roles = view.gateway
    if roles.egress:
        out = _out(own, roles.egress.interface)
        for family, ranges in by_family(roles.egress.lans):
            for mesh in _translated(own, view, roles.egress.nat, family):
                yield f"{out} {mesh} {family} daddr {ranges} masquerade"
        for family, cidr, lan in _mapped(view):
            yield f'oifname "{own.interface}" {family} saddr {lan} snat {family} prefix to {cidr}'
    if roles.exit:
        out = _out(own, roles.exit.interface)
        for family in FAMILY.values():
            for mesh in _translated(own, view, roles.exit.nat, family):
                yield f"{out} {mesh} masquerade"


def _link_lines(own: Own, view: View) -> list[str]:
    """Nothing from the tunnel reaches what the machine's provider answers to it alone.

    Nor that, or what is on its links, under the address that a mapped range gives it: dropped
    before any DNAT, so wherever that would lead.
    """
    clouds = _clouds(own)
    seen = (
        _seen_as(ip_network(one), ip_network(lan), ip_network(cidr))
        for cidr, lan in view.gateway.mapped.items()
        for one in (*LINKS, *clouds)
    )
    kept = [*clouds, *filter(None, seen)]
    lines = ["type filter hook prerouting priority raw; policy accept;"]
    lines += [
        f'iifname "{own.interface}" {family} daddr {ranges} drop'
        for family, ranges in by_family(kept)
    ]
    return lines


def _out(own: Own, interface: str | None) -> str:
    return f'oifname "{interface}"' if interface else f'oifname != "{own.interface}"'


def _translated(own: Own, view: View, nat: Nat, family: str) -> Iterator[str]:
    """The condition for packets of the mesh that get the gateway's own address.

    Ranges of other gateways may hold LANs of this one, whose packets are none of the mesh.
    """
    translated = [cidr for cidr in (*view.cidrs, *others(view)) if is_translated(nat, cidr)]
    near = _but((*own.lans, *view.gateway.lans))
    for found, ranges in by_family(translated):
        if found == family:
            yield f"{family} saddr {ranges}{near[family]}"


def _but(lans: Sequence[str]) -> dict[str, str]:
    """The condition, of each family, for what is not from these ranges."""
    near = dict(by_family(lans))
    return {f: f" {f} saddr != {near[f]}" if f in near else "" for f in FAMILY.values()}


def _meet(one: str, other: str) -> bool:
    return overlap(ip_network(one), ip_network(other))


def _mapped(view: View) -> list[tuple[str, str, str]]:
    """The family, what the network sees, and the LAN behind it, of each range mapped 1:1.

    Translated address by address (nft(8), NAT STATEMENTS, prefix), so a gateway that takes over
    maps what has begun at another in the same way. In the LAN nobody knows the range.
    """
    pairs = view.gateway.mapped.items()
    return [(FAMILY[ip_network(cidr).version], cidr, lan) for cidr, lan in pairs]


def _kept_out(own: Own, view: View) -> list[str]:
    """What was meant for a mapped range goes to its LAN, or nowhere: not on to another site."""
    egress = view.gateway.egress
    if egress is None or not egress.mapped:
        return []
    tunnel = f'"{own.interface}"'
    stray = f'oifname != "{egress.interface}"' if egress.interface else f"oifname {tunnel}"
    return [
        f"iifname {tunnel} {stray} ct original {family} daddr {ranges} drop"
        for family, ranges in by_family(tuple(egress.mapped))
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
    lans = [ip_network(lan, strict=False) for lan in own.lans]
    return [c for c in CLOUDS if not any(overlap(ip_network(c), lan) for lan in lans)]
