"""What `iptables -S` prints of a table, as `core.firewall` judges it (iptables(8))."""

from __future__ import annotations

import shlex
from collections.abc import Iterator

from nmk.core.firewall import Chain, Match, Rule, Table

_HOOKS = {name.upper(): name for name in ("input", "forward", "output", "postrouting")}
_VERDICTS = {
    "ACCEPT": "accept",
    "DROP": "drop",
    "REJECT": "drop",
    "RETURN": "return",
    **dict.fromkeys(("MASQUERADE", "SNAT"), "translate"),
    **dict.fromkeys(("DNAT", "REDIRECT"), "redirect"),
}
_FIELDS = {
    "-p": "protocol",
    "-i": "comes_by",
    "-o": "goes_by",
    "-s": "source",
    "-d": "target",
    "--dport": "port",
    "--dports": "port",
    "--ctstate": "state",
    "--state": "state",
}
_NO_CONDITION = {
    *("--comment", "--reject-with", "--log-prefix", "--log-level"),
    *("--to-source", "--to-ports", "--random", "--random-fully", "--persistent"),
}


def parse_rules(text: str, name: str, tool: str = "") -> Table:
    """The table that a `tool` such as iptables printed with -S; `name` is what people call it."""
    chains: dict[str, Chain] = {}
    for line in text.splitlines():
        words = shlex.split(line)
        if len(words) < 2:
            continue
        verb, chain, *rest = words
        if verb == "-P":
            chains[chain] = Chain(chain, _HOOKS.get(chain), _VERDICTS.get(rest[0], "accept"))
        elif verb == "-N":
            chains[chain] = Chain(chain)
        elif verb == "-A" and chain in chains:
            chains[chain].rules.append(_parse_rule(rest))
    return Table(name, chains, tool)


def _parse_rule(words: list[str]) -> Rule:
    matches, verdict, module = [], "", ""
    for option, values, negated in _options(words):
        if option == "-m":
            module = values[0]
        elif option == "--mark" and module == "mark":  # and not a connection's
            value, _, mask = values[0].partition("/")
            found = (int(value, 0), int(mask or "0xffffffff", 0))
            matches.append(Match("mark", (found,), negated))
        elif option == "-j":
            verdict = _VERDICTS.get(values[0], f"jump {values[0]}")
        elif option == "-g":
            verdict = f"goto {values[0]}"
        elif option in _FIELDS:
            matches.append(_parse_match(_FIELDS[option], values[0], negated=negated))
        elif option not in _NO_CONDITION:
            matches.append(Match(option))
    return Rule(tuple(matches), verdict)


def _options(words: list[str]) -> Iterator[tuple[str, list[str], bool]]:
    """Each option with the words up to the next one, and whether a `!` stands before it."""
    option, values, negated, bang = "", list[str](), False, False
    for word in (*words, "-"):
        if word == "!":
            bang = True
        elif word.startswith("-"):
            if option:
                yield option, values or [""], negated
            option, values, negated, bang = word, [], bang, False
        else:
            values.append(word)


def _parse_match(field: str, text: str, *, negated: bool) -> Match:
    values = text.lower().split(",") if field == "state" else text.split(",")
    if field == "port":
        return Match(field, tuple(_span(v) for v in values), negated)
    if field in {"comes_by", "goes_by"}:
        return Match(field, (text.replace("+", "*"),), negated)
    return Match(field, tuple(values), negated)


def _span(text: str) -> object:
    low, _, high = text.partition(":")
    return (int(low), int(high or low)) if low.isdecimal() and (high or low).isdecimal() else None
