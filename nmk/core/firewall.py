"""What a packet filter does with one packet, as far as can be told from its rules.

Conditions that we cannot judge (addresses, marks, rates) make a rule that may hold. One that may
hold and accepts makes the outcome a "maybe"; one that may hold and drops is passed over.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from ipaddress import ip_network
from typing import Literal

from nmk.core.parse import Range

Outcome = Literal["accept", "drop", "maybe", "translate"]
Kind = Literal["filter", "nat"]
OUTSIDE = "?"  # some interface that leads out of the machine, none in particular
_RANGE = re.compile(r"[0-9a-f.:]+/[0-9]+")
_FAMILIES = {"ip": 4, "ip6": 6}
_DEEPEST = 16  # jumps, as the kernel's own limit for nft


@dataclass(frozen=True, slots=True)
class Packet:
    """A packet, the first of a flow unless `state` says otherwise.

    Interfaces are names, OUTSIDE, or None where it has none. `inside`: names of interfaces that do
    not lead out of the machine. `source`, `target`: the range that it is from and goes to, None
    where it may be any; `mark`: so too.
    """

    protocol: str
    port: int
    comes_by: str | None = OUTSIDE
    goes_by: str | None = None
    inside: frozenset[str] = frozenset({"lo"})
    state: str = "new"
    source: Range | None = None
    target: Range | None = None
    mark: int | None = None


@dataclass(frozen=True, slots=True)
class Match:
    """A condition: the field is one of the values, or with `negated` none of them.

    Fields: protocol, port (as (low, high)), comes_by, goes_by (names; a trailing * stands for any
    end), state and status (of the connection), source, target (as "10.8.0.0/24"), family (4 or 6),
    mark (as (value, mask)). Any other cannot be judged.
    """

    field: str
    values: tuple[object, ...] = ()
    negated: bool = False


@dataclass(frozen=True, slots=True)
class Rule:
    """All conditions met: accept, drop, translate (the source), return, jump NAME or goto NAME.

    Else, as for redirect (another target), to the next rule.
    """

    matches: tuple[Match, ...]
    verdict: str


@dataclass(frozen=True, slots=True)
class Chain:
    """A chain; `hook` and `policy` are None for one that others jump to."""

    name: str
    hook: str | None = None
    policy: str | None = None
    rules: list[Rule] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Table:
    """Chains that may jump to one another, by name, and what people call the table.

    `tool`: the iptables that knows it, "" where it has not been asked.
    """

    name: str
    chains: Mapping[str, Chain]
    tool: str = ""


@dataclass(frozen=True, slots=True)
class Stopped:
    """Where a packet is dropped, or may be. `tool`: as of its table."""

    table: str
    chain: str
    outcome: Outcome
    tool: str = ""


def find_stops(tables: Sequence[Table], hook: str, packet: Packet) -> list[Stopped]:
    """The base chains of a hook that do not let the packet pass for sure; each one has a say."""
    outcomes = [
        Stopped(table.name, chain.name, judge_chain(table, chain, packet), table.tool)
        for table in tables
        for chain in table.chains.values()
        if chain.hook == hook and _sees(table, packet)
    ]
    return [o for o in outcomes if o.outcome != "accept"]


def judge_chain(table: Table, base: Chain, packet: Packet) -> Outcome:
    """What becomes of the packet in a base chain."""
    walk = _Walk(table, packet)
    outcome = walk.through(base, 0) or ("drop" if base.policy == "drop" else "accept")
    return "maybe" if outcome == "drop" and walk.may_pass else outcome


def find_translations(tables: Sequence[Table], packet: Packet) -> Iterator[tuple[str, bool]]:
    """The tables and base chains that translate the packet's source, each with whether for sure."""
    for table in tables:
        for chain in table.chains.values():
            if chain.hook == "postrouting" and _sees(table, packet):
                walk = _Walk(table, packet)
                is_sure = walk.through(chain, 0) == "translate"
                if is_sure or walk.may_translate:
                    yield f"{table.name} {chain.name}", is_sure and not walk.may_pass


def _sees(table: Table, packet: Packet) -> bool:
    """Whether packets of that family come to the table at all."""
    family = _FAMILIES.get(table.name.partition(" ")[0])
    return family is None or packet.source is None or packet.source.version == family


class _Walk:
    """One packet's way from rule to rule."""

    def __init__(self, table: Table, packet: Packet) -> None:
        self._table = table
        self._packet = packet
        self.may_pass = False
        self.may_translate = False

    def through(self, chain: Chain, depth: int) -> Outcome | None:
        """The outcome in a chain; None where the packet comes out at its end."""
        for rule in chain.rules:
            holds = self._holds(rule)
            if holds is False:
                continue
            verb, _, target = rule.verdict.partition(" ")
            if verb == "return" and holds:
                return None
            outcome = self._verdict(verb, target, depth)
            if outcome == "accept" and not holds:
                self.may_pass = True
            elif outcome == "translate" and not holds:
                self.may_translate = True
            elif outcome and holds:
                return outcome
            if verb == "goto" and holds:
                return None
        return None

    def _verdict(self, verb: str, target: str, depth: int) -> Outcome | None:
        if verb == "accept":
            return "accept"
        if verb == "drop":
            return "drop"
        if verb == "translate":
            return "translate"
        next_chain = self._table.chains.get(target)
        if verb in {"jump", "goto"} and next_chain and depth < _DEEPEST:
            return self.through(next_chain, depth + 1)
        return None

    def _holds(self, rule: Rule) -> bool | None:
        met = [self._met(match) for match in rule.matches]
        if False in met:
            return False
        return None if None in met else True

    def _met(self, match: Match) -> bool | None:
        packet = self._packet
        found: bool | None
        match match.field:
            case "protocol":
                found = packet.protocol in match.values
            case "port":
                found = any(_within(packet.port, v) for v in match.values)
            case "state":
                found = packet.state in match.values
            case "source" | "target" as side:
                range_ = packet.source if side == "source" else packet.target
                found = _is_within(range_, match.values)
            # What arrives for this machine as the first of its flow has been through nothing yet:
            # neither translated (dnat) nor answered. What is forwarded may be.
            case "status" if packet.state == "new" and packet.goes_by is None:
                found = False
            case "mark" if packet.mark is not None:
                found = any(_is_marked(packet.mark, v) for v in match.values)
            case "family" if packet.source:
                found = packet.source.version in match.values
            case "comes_by":
                found = _is_interface(packet.comes_by, match.values, packet.inside)
            case "goes_by":
                found = _is_interface(packet.goes_by, match.values, packet.inside)
            case _:
                return None
        return found if found is None else found != match.negated


def _is_within(range_: Range | None, values: tuple[object, ...]) -> bool | None:
    """Whether all of the range is in one of the values; None where that cannot be told."""
    if range_ is None:
        return None
    known = [ip_network(v) for v in values if isinstance(v, str) and _RANGE.fullmatch(v)]
    near = [v for v in known if v.version == range_.version and v.overlaps(range_)]
    if any(v.prefixlen <= range_.prefixlen for v in near):
        return True
    return None if near or len(known) < len(values) else False


def _is_marked(mark: int, value: object) -> bool:
    return isinstance(value, tuple) and mark & value[1] == value[0]


def _within(port: int, span: object) -> bool:
    return isinstance(span, tuple) and span[0] <= port <= span[1]


def _is_interface(
    name: str | None, values: tuple[object, ...], inside: frozenset[str]
) -> bool | None:
    if name == OUTSIDE:
        return False if inside.issuperset(values) else None
    return name is not None and any(
        name.startswith(v[:-1]) if v.endswith("*") else name == v
        for v in values
        if isinstance(v, str)
    )
