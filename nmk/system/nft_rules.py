"""What `nft --json list ruleset` prints, as `core.firewall` judges it (libnftables-json(5))."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from nmk.core.firewall import Chain, Kind, Match, Rule, Table
from nmk.core.nesting import read_json
from nmk.core.parse import brief
from nmk.errors import CommandFailed

Json = dict[str, Any]
Sets = Mapping[str, list[Any]]  # of one table, by name
_VERDICTS = {
    "accept": "accept",
    "drop": "drop",
    "reject": "drop",
    "return": "return",
    **dict.fromkeys(("masquerade", "snat"), "translate"),
    **dict.fromkeys(("dnat", "redirect"), "redirect"),
}
_NO_CONDITION = {"counter", "log", "jump", "goto", "comment", *_VERDICTS}
_META = {
    "l4proto": "protocol",
    "iifname": "comes_by",
    "iif": "comes_by",
    "oifname": "goes_by",
    "oif": "goes_by",
}
_PROTOCOLS = {"ipv4": 4, "ipv6": 6}
_SIDES = {"saddr": "source", "daddr": "target"}
_PORTS = {"udp", "tcp", "sctp", "dccp", "udplite"}


def parse_ruleset(text: str, kind: Kind = "filter") -> list[Table]:
    """The chains of all tables, their hooks where they are of the kind. Raises CommandFailed."""
    try:
        objects = [o for o in read_json(text)["nftables"] if isinstance(o, dict)]
        tables: dict[tuple[str, str], dict[str, Chain]] = {}
        sets: dict[tuple[str, str], dict[str, list[Any]]] = {}
        for chain in _all(objects, "chain"):
            filters = chain.get("type") == kind
            tables.setdefault(_home(chain), {})[chain["name"]] = Chain(
                chain["name"],
                hook=chain["hook"] if filters else None,
                policy=chain.get("policy") if filters else None,
            )
        for named in (*_all(objects, "set"), *_all(objects, "map")):
            sets.setdefault(_home(named), {})[named["name"]] = named.get("elem", [])
        for rule in _all(objects, "rule"):
            rules = tables[_home(rule)][rule["chain"]].rules
            rules.extend(_parse_rule(rule.get("expr", []), sets.get(_home(rule), {})))
    except (ValueError, TypeError, KeyError) as error:
        raise CommandFailed(
            f"`nft list ruleset` printed what cannot be read: {brief(error)}"
        ) from None
    return [Table(" ".join(home), chains) for home, chains in tables.items()]


def _all(objects: Iterable[Json], kind: str) -> list[Json]:
    return [o[kind] for o in objects if kind in o]


def _home(thing: Json) -> tuple[str, str]:
    return thing["family"], thing["table"]


def _parse_rule(expressions: list[Json], sets: Sets) -> Iterator[Rule]:
    """The rule; a verdict map makes one of each of its elements."""
    matches: list[Match] = []
    verdict = ""
    for expression in expressions:
        [(kind, content)] = expression.items()
        if kind == "vmap":
            for value, then in _elements(content["data"], sets):
                more = _parse_match({"left": content["key"], "right": value}, sets)
                yield Rule((*matches, *more), _verdict(then))
        elif kind == "match":
            matches += _parse_match(content, sets)
        elif kind not in _NO_CONDITION:
            matches.append(Match(kind))
        verdict = _verdict(expression) or verdict
    if verdict:
        yield Rule(tuple(matches), verdict)


def _verdict(expression: Json) -> str:
    for kind, content in expression.items():
        if kind in {"jump", "goto"}:
            return f"{kind} {content['target']}"
        if kind in _VERDICTS:
            return _VERDICTS[kind]
    return ""


def _parse_match(match: Json, sets: Sets) -> list[Match]:
    left, negated = match["left"], match.get("op") == "!="
    if match.get("op", "==") not in {"==", "!=", "in"} or not isinstance(left, dict):
        return [Match("?")]
    values = tuple(_elements(match["right"], sets))
    [(kind, key)] = left.items()
    if kind == "meta":
        return [_parse_meta(key["key"], values, negated=negated)]
    if kind == "&" and key[0] == {"meta": {"key": "mark"}} and isinstance(key[1], int):
        return [Match("mark", tuple((v, key[1]) for v in values), negated)]
    if kind == "ct" and key["key"] in {"state", "status"}:
        return [Match(key["key"], values, negated)]
    if kind == "payload" and "field" in key:
        return _parse_payload(key["protocol"], key["field"], values, negated=negated)
    return [Match("?")]


def _parse_meta(key: str, values: tuple[Any, ...], *, negated: bool) -> Match:
    if key == "nfproto":
        return Match("family", tuple(_PROTOCOLS.get(v) for v in values), negated)
    if key == "mark":
        return Match("mark", tuple((v, 0xFFFFFFFF) for v in values), negated)
    return Match(_META.get(key, "?"), values, negated)


def _parse_payload(
    protocol: str, field: str, values: tuple[Any, ...], *, negated: bool
) -> list[Match]:
    around = [Match("protocol", (protocol,))] if protocol in _PORTS else []
    if field == "dport" and (around or protocol == "th"):
        return [*around, Match("port", tuple(_span(v) for v in values), negated)]
    if field in {"protocol", "nexthdr"} and protocol in {"ip", "ip6"}:
        return [Match("protocol", values, negated)]
    if field in _SIDES and protocol in {"ip", "ip6"}:
        return [Match(_SIDES[field], tuple(_range(v) for v in values), negated)]
    return [*around, Match("?")]


def _elements(right: Any, sets: Sets) -> Iterator[Any]:  # noqa: ANN401  # JSON
    """The values on the right of a comparison, one or many."""
    if isinstance(right, str) and right.startswith("@"):
        right = {"set": sets.get(right[1:], [])}
    if isinstance(right, dict) and "elem" in right:
        right = right["elem"]["val"]
    if isinstance(right, dict) and "set" in right:
        content = right["set"]
        for element in content if isinstance(content, list) else [content]:
            yield from [element] if isinstance(element, list) else _elements(element, sets)
    elif isinstance(right, list):
        yield from right
    elif isinstance(right, dict) and "prefix" in right:
        yield f"{right['prefix']['addr']}/{right['prefix']['len']}"
    elif isinstance(right, dict) and "range" in right:
        yield tuple(right["range"])
    else:
        yield right if not isinstance(right, dict) else None


def _span(value: Any) -> object:  # noqa: ANN401  # JSON
    if isinstance(value, tuple) and all(isinstance(v, int) for v in value):
        return value
    return (value, value) if isinstance(value, int) else None


def _range(value: Any) -> object:  # noqa: ANN401  # JSON
    """A single address as a range, as others are."""
    if not isinstance(value, str) or "/" in value:
        return value
    return f"{value}/{128 if ':' in value else 32}"
