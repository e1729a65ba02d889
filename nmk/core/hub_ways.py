"""Where a hub leads its clients, by the rules of its machine, and what of that ends with it.

Whoever laid a rule: where clients get to is judged by packets, once from the hub's interface and
once from the network's, which has another name.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from nmk.core.docker import CHAIN as DOCKER
from nmk.core.firewall import Match, Packet, Rule, Stopped, Table, find_stops, find_translations
from nmk.core.parse import Range

_USUAL = (("tcp", 22), ("udp", 53))  # what clients may want of the hub itself
_MOST_PORTS = 64


@dataclass(frozen=True, slots=True)
class Machine:
    """The rules of the hub's machine but nmk's own, and the families that it forwards (4, 6).

    `hub`, `mesh`: the interfaces before and after; `ranges`: those that the clients are in.
    """

    filters: Sequence[Table]
    nats: Sequence[Table]
    forwards: frozenset[int]
    hub: str
    mesh: str
    ranges: tuple[Range, ...]


@dataclass(frozen=True, slots=True)
class Way:
    """To what is behind an interface; `internet`: to everything, with a sample as the range."""

    range: Range
    interface: str
    internet: bool = False


@dataclass(frozen=True, slots=True)
class Led:
    """A way on which the hub leads its clients.

    `by`: the table and chain that translate them, for sure or perhaps.
    """

    way: Way
    by: str | None = None
    is_sure: bool = False


def led_ways(machine: Machine, ways: Sequence[Way]) -> list[Led]:
    """Those ways on which packets of clients pass, both there and back."""
    found = []
    for way in ways:
        packets = _packets(machine, way)
        if packets and not any(_drops(machine.filters, "forward", p) for p in packets):
            by = [*find_translations(machine.nats, packets[0])]
            sure = [chain for chain, is_sure in by if is_sure]
            first = next(iter(sure or [chain for chain, _ in by]), None)
            found.append(Led(way, first, bool(sure)))
    return found


def forward_stops(machine: Machine, led: Sequence[Led]) -> list[Stopped]:
    """Chains that would drop what they let pass while it came from the hub's interface.

    But for those where nmk puts rules of its own.
    """
    mesh = replace(machine, hub=machine.mesh)
    tables = [t for t in machine.filters if DOCKER not in t.chains]
    packets = [packet for one in led for packet in _packets(mesh, one.way)]
    return list(dict.fromkeys(s for p in packets for s in _drops(tables, "forward", p)))


def input_stops(machine: Machine) -> dict[Stopped, list[tuple[str, int]]]:
    """The same of what is for the machine itself: protocols and ports by chain."""
    found: dict[Stopped, list[tuple[str, int]]] = {}
    asked = dict.fromkeys((*_USUAL, *_ports_named(machine)))
    for protocol, port in [*asked][:_MOST_PORTS]:
        for source in machine.ranges:
            before = Packet(protocol, port, machine.hub, source=source)
            if not _drops(machine.filters, "input", before):
                after = replace(before, comes_by=machine.mesh)
                for stop in _drops(machine.filters, "input", after):
                    ports = found.setdefault(stop, [])
                    ports += [(protocol, port)] * ((protocol, port) not in ports)
    return found


def idle_rules(machine: Machine) -> Iterator[tuple[str, str, str, int]]:
    """Table, chain, verdict and number of rules for the hub's interface that will never match.

    Of those that accept the effect is judged above.
    """
    asked = [(table, "drop") for table in machine.filters]
    asked += [(table, verdict) for table in machine.nats for verdict in ("translate", "redirect")]
    for table, verdict in asked:
        for chain in table.chains.values():
            rules = [r for r in chain.rules if r.verdict == verdict and _names(r, machine.hub)]
            if rules:
                yield table.name, chain.name, verdict, len(rules)


def _packets(machine: Machine, way: Way) -> list[Packet]:
    """A client's first packet on a way and the answer; none where that family is not forwarded."""
    version = way.range.version
    source = next((r for r in machine.ranges if r.version == version), None)
    if source is None or version not in machine.forwards:
        return []
    there = Packet("tcp", 443, machine.hub, way.interface, source=source, target=way.range)
    back = Packet("tcp", 443, way.interface, machine.hub, state="established",
                  source=way.range, target=source)  # fmt: skip
    return [there, back]


def _drops(tables: Sequence[Table], hook: str, packet: Packet) -> list[Stopped]:
    return [s for s in find_stops(tables, hook, packet) if s.outcome == "drop"]


def _ports_named(machine: Machine) -> Iterator[tuple[str, int]]:
    """The ports in rules for the hub's interface."""
    for table in machine.filters:
        for chain in table.chains.values():
            for rule in chain.rules:
                if _names(rule, machine.hub):
                    yield from _ports(rule)


def _ports(rule: Rule) -> Iterator[tuple[str, int]]:
    protocols = [v for m in rule.matches if m.field == "protocol" for v in m.values]
    spans = [v for m in rule.matches if m.field == "port" for v in m.values]
    for protocol in protocols:
        for span in spans:
            if isinstance(span, tuple):
                yield str(protocol), span[0]


def _names(rule: Rule, interface: str) -> bool:
    def is_named(match: Match) -> bool:
        is_one = match.field in {"comes_by", "goes_by"} and not match.negated
        return is_one and interface in match.values

    return any(is_named(match) for match in rule.matches)
