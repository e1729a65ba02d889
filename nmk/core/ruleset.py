"""The network's own nft table: one text, replaced atomically, gone on leave (nft(8)).

It holds what no tunnel leads to or comes from; what a gateway forwards and translates, and that a
machine which forwards for its own reasons passes nothing on for the network; the mark that keeps
WireGuard's and the agent's own packets out of the tunnel, and what an exit node's user wants to be
cut off from.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from ipaddress import ip_interface, ip_network

from nmk.core.claims import holds
from nmk.core.forward_chains import FORWARD, forward_chains
from nmk.core.links import CLOUDS, LINKS, NOWHERE, is_lan
from nmk.core.nft_text import FAMILY, Chains, Own, by_family, names, others, sources, targets
from nmk.core.parse import overlap
from nmk.core.peers import View
from nmk.core.routes import RouteWishes, Routing, followed
from nmk.core.tunnel import MARK

KILL = ("kill-leaving", "kill-postrouting", "kill-local", "kill-forward")
"""The kill switch: each chain comes after those that it names."""
OLD_KILL = ("kill-output", "kill-forward")  # up to 0.2.0
_ALWAYS = "tunnel-input"
# Of each table, one; up to 0.2.0 there was none that is in all.
_SIGNS = ({_ALWAYS}, {"links", FORWARD}, {"premark"}, {"guard-output"}, {OLD_KILL[0]}, {KILL[0]})
# Whoever reroutes what a program sends does it in `output`, where nft goes on showing the interface
# from before. Here it is the one that the packet leaves by, and the source is still the sender's.
_LEAVING = "type filter hook postrouting priority filter; policy accept;"
_SENT = "type filter hook output priority 300; policy accept;"  # after all that reroutes there


def render_ruleset(own: Own, view: View, routing: Routing, wishes: RouteWishes) -> str | None:
    """The content of the table; None where none is needed."""
    cut_off = _cuts_off(wishes)
    marks = _mark_chains(own, view, cut_off=cut_off or own.kept_in)
    chains = [
        *(forward_chains(own, view) if view.gateway.roles or own.forwards else ()),
        *(marks if routing.table else ()),
        *(_guard_chains(own, view) if wishes.guarded else ()),
        *(_inbound_chains(own, view) if routing.exit else ()),
        *(_kill_chains(own, view, wishes) if cut_off else ()),
    ]
    return _render(own, [*_tunnel_chains(own, view), *chains] if chains or own.loopback else ())


def render_kill_switch(own: Own, view: View, wishes: RouteWishes) -> str | None:
    """The same with the kill switch alone."""
    return _render(own, _kill_chains(own, view, wishes)) if _cuts_off(wishes) else None


def _cuts_off(wishes: RouteWishes) -> bool:
    return wishes.kill_switch and wishes.exit_node is not None


def _render(own: Own, chains: Iterable[tuple[str, list[str]]]) -> str | None:
    chains = [*chains]
    if not chains:
        return None
    body = "\n".join(
        f"\tchain {name} {{\n" + "".join(f"\t\t{line}\n" for line in lines) + "\t}"
        for name, lines in chains
    )
    return f"table inet {own.table} {{\n{body}\n}}\n"


def table_name(network: str) -> str:
    """The name of a network's table in nft."""
    return f"nmk-{network}"


def is_ours(listing: str) -> bool:
    """Whether a table was made by `render_ruleset`, of this version or of 0.2.0, by what is in it.

    A gateway of 0.2.0 has no chain that another program would not have as well.
    """
    found = {line.split()[1] for line in listing.splitlines() if line.startswith("\tchain ")}
    return any(sign <= found for sign in _SIGNS) or "icmpv6 type nd-redirect drop" in listing


def _tunnel_chains(own: Own, view: View) -> Chains:
    """What is of a link of this machine never comes out of the tunnel; what is of the mesh must.

    An exit gateway may speak under any address, and would be this machine's router otherwise, by
    one advertisement (RFC 4861, 6.2.3). Nobody is a neighbour here, and nobody knows a better way.
    """
    led = f'iifname "{own.interface}"'
    finds = "nd-router-solicit, nd-router-advert, nd-neighbor-solicit, nd-neighbor-advert"
    lines = ["type filter hook prerouting priority raw; policy accept;"]
    for family, ranges in by_family((*LINKS, *NOWHERE)):
        lines += [f"{led} {family} {side} {ranges} drop" for side in ("saddr", "daddr")]
    lines.append(f"{led} icmp type {{ redirect, router-advertisement }} drop")
    lines.append(f"{led} icmpv6 type {{ {finds}, nd-redirect }} drop")
    yield _ALWAYS, [*lines, *_beside_lines(own, view)]


def _beside_lines(own: Own, view: View) -> Iterator[str]:
    """What is beside the tunnel has no address of the mesh as its source.

    It would be heard, passed on and translated like a member. Such addresses have only: a LAN
    inside the mesh's ranges, which leave it out (see `claims`), or behind a mapped range, each by
    its own interface; and another network that has them in ranges of its own. Who hands out
    addresses in a LAN may claim such for it: where this gateway does not route that, nor has
    containers there, nobody in it speaks to the node's own address; one that is in a LAN itself is
    not the node's here.
    """
    for rival in sources(_rivals(own, view)):
        yield f"{rival} accept"
    beside = f"iifname != {names('lo', own.interface)}"
    known = {*view.gateway.lans, *(cidr for _, cidr in own.inner)}
    claimed = [(i, lan) for i, lan in own.subnets if any(holds(c, lan) for c in view.cidrs)]
    strangers = dict(by_family([c for _, c in claimed if not any(holds(k, c) for k in known)]))
    for address in view.addresses:
        family = FAMILY[ip_interface(address).version]
        if family in strangers:
            yield f"{beside} {family} saddr {strangers[family]} {family} daddr {address} drop"
    for near in sources(claimed):
        yield f"{near} accept"
    lans = [lan for lan in view.gateway.lans if any(holds(c, lan) for c in view.cidrs)]
    yield from _routed_lines(own, view, lans)
    for family, ranges in by_family(view.cidrs):
        yield f"{beside} {family} saddr {ranges} drop"


def _routed_lines(own: Own, view: View, lans: Sequence[str]) -> Iterator[str]:
    """What comes from LANs that this gateway routes passes, by where its answers go.

    A source that somebody made up has another neighbour.
    """
    for family, ranges in by_family(lans):
        yield f"iifname {_way(own, view)} {family} saddr {ranges} fib saddr . iif oif exists accept"


def _way(own: Own, view: View) -> str:
    """The interface to the LANs that this gateway routes, or what may be it."""
    egress = view.gateway.egress
    if egress and egress.interface:
        return f'"{egress.interface}"'
    return f"!= {names(own.interface, *own.meshes)}"


def _rivals(own: Own, view: View) -> list[tuple[str, str]]:
    """Interfaces of the machine's other networks with ranges of these that overlap the mesh's."""
    ours = [ip_network(cidr) for cidr in view.cidrs]
    return [(i, c) for i, c in own.rivals if any(overlap(ip_network(c), o) for o in ours)]


def _mark_chains(own: Own, view: View, *, cut_off: bool) -> Chains:
    """Answers to marked packets carry the mark too: reverse path filters look the way up by it.

    Connections from outside all meshes are answered outside: both directions are marked as well,
    also of those that were there before this table. Not so where a kill switch stands, whichever
    network's: these would be a way out.
    """
    outside = f"iifname != {names(own.interface, *own.meshes)}"
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
    those that connections of this machine's own get. One with an address of the mesh was in the
    tunnel, and stays there.
    """
    mark = f"ct mark set {MARK:#x} meta mark set {MARK:#x}"
    mine = dict(by_family(view.addresses))
    for family, beyond in zip(FAMILY.values(), _beyond(view), strict=True):
        but = f" {family} saddr != {mine[family]}" if family in mine else ""
        led = f'oifname "{own.interface}" {beyond}{but} ct mark 0'
        yield f"{led} ct direction reply {mark}"
        yield f"{led} ct state new tcp flags & syn == 0x0 tcp sport < {own.lowest_port} {mark}"


def _beyond(view: View, side: str = "daddr") -> Iterator[str]:
    """The condition, of each family, for what is neither in the mesh nor in a range of it."""
    known = [*view.cidrs, *others(view)]
    ranges = dict(by_family(known))
    for version, family in FAMILY.items():
        inside = ranges.get(family)
        yield f"{family} {side} != {inside}" if inside else f"meta nfproto ipv{version}"


def _guard_chains(own: Own, view: View) -> Chains:
    """Packets to and from this node's addresses in the mesh go by the mesh alone.

    Nobody in the LAN tries out what is in the tunnel (CVE-2019-14899), connections that began in
    the tunnel do not go on beside it, and what others reroute does not either. An egress gateway is
    called, under these too, by the LANs that it routes, and by nobody else: no other role has
    anybody call by another way.
    """
    tunnel = names("lo", own.interface)
    into = ["type filter hook prerouting priority raw; policy accept;"]
    out = [_LEAVING]
    into += _routed_lines(own, view, view.gateway.lans)
    out += [
        f"oifname {_way(own, view)} {family} daddr {ranges} accept"
        for family, ranges in by_family(view.gateway.lans)
    ]
    for address in view.addresses:
        family = FAMILY[ip_interface(address).version]
        into.append(f"iifname != {tunnel} {family} daddr {address} drop")
        out.append(f"oifname != {tunnel} {family} saddr {address} drop")
    yield "guard-input", into
    yield "guard-postrouting", out


def _inbound_chains(own: Own, view: View) -> Chains:
    """By the exit node come answers. What begins comes from the mesh and from ranges it routes."""
    begins = f'iifname "{own.interface}" ct state new'
    lines = [f"{begins} {beyond} drop" for beyond in _beyond(view, "saddr")]
    for hook in ("input", "forward"):
        head = f"type filter hook {hook} priority filter; policy accept;"
        yield f"inbound-{hook}", [head, *lines]


def _kill_chains(own: Own, view: View, wishes: RouteWishes) -> Chains:
    """Nothing leaves but by the tunnel, for it, or to the LAN (and to get an address there).

    What is forwarded has the interface that it leaves by in `forward` already, and is never
    WireGuard's own, whatever mark it has from before; in `postrouting` old kernels do not say where
    it came from (before 5.7), so it passes there: it has no socket, and no source of this machine.
    Nor has what the kernel still sends for a program that has ended, once the address has gone: of
    what is sent here the rest is judged in `output`.
    A LAN is what `is_lan` takes for one, at its own interface; whatever addresses it has, those of
    the mesh are not its own, nor those in ranges that are led into the tunnel, unless this very
    gateway routes that LAN. No other network draws the mesh's addresses either, but those in ranges
    of its own. The kernel finds its neighbours in other subnets too, or no router would be found;
    theirs alone has not been forwarded (RFC 4861, 7.1). The mark is WireGuard's (UDP) and the
    agent's (TCP, whose connections it begins itself): what others mark by set-user-ID ping, or give
    the mark of a connection that was answered outside before, has it for nothing.
    """
    near = [(i, cidr) for i, cidr in own.subnets if is_lan(cidr)]
    routed = [(i, c) for i, c in near if any(holds(lan, c) for lan in view.gateway.lans)]
    tunnel = f"oifname {names('lo', own.interface)} accept"
    pass_ = [
        *(f"{rival} accept" for rival in targets(_rivals(own, view))),
        *_lines("drop", view.cidrs),
        *([f"oifname {names(*own.meshes)} accept"] if own.meshes else ()),
        *_lines("accept", (*LINKS, *CLOUDS)),
        *(f"{lan} accept" for lan in targets(routed)),
        *_lines("drop", followed(view, wishes)),
        *(f"{lan} accept" for lan in targets(near)),
        "ip6 hoplimit 255 icmpv6 type { nd-neighbor-solicit, nd-neighbor-advert } accept",
    ]
    dhcp = ["udp sport 68 udp dport 67 accept", "udp sport 546 udp dport 547 accept"]
    judge, leaving, local, forward = KILL
    yield judge, [*pass_, *dhcp, "drop"]
    sent = [f"{here} goto {judge}" for here in ("meta skuid >= 0", "fib saddr type local")]
    marked = f"meta mark {MARK:#x} meta l4proto"
    called = f"{marked} tcp ct direction reply goto {judge}"
    own_way = [tunnel, called, f"{marked} {{ tcp, udp }} accept"]
    yield leaving, [_LEAVING, *own_way, *sent]
    later = [f"{here} accept" for here in ("meta skuid >= 0", "fib saddr type local")]
    yield local, [_SENT, *own_way, *later, f"goto {judge}"]
    head = "type filter hook forward priority filter; policy accept;"
    yield forward, [head, f'iifname "{own.interface}" accept', tunnel, *pass_, "drop"]


def _lines(verdict: str, cidrs: Sequence[str]) -> Iterator[str]:
    """What becomes of packets to these ranges."""
    for family, ranges in by_family(cidrs):
        yield f"{family} daddr {ranges} {verdict}"
