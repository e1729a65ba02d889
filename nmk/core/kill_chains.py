"""The kill switch in a table that otherwise stays as it is: text for nft(8)."""

from __future__ import annotations

import re

from nmk.core.ruleset import KILL

_CHAIN = re.compile(r"^\tchain (\S+) \{\n.*?^\t\}$", re.MULTILINE | re.DOTALL)
_MARKS = ("premark", "answer")  # of an older table they would mark what nothing may leave by


def chains_of(table: str) -> dict[str, str]:
    """The chains of a table by their names, as we write it or nft lists it."""
    return {found[1]: found[0] for found in _CHAIN.finditer(table)}


def is_shut(table: str) -> bool:
    """Whether the kill switch is in a table, as nft lists it."""
    chains = chains_of(table)
    return all(chains.get(name, "").endswith("\n\t\tdrop\n\t}") for name in KILL)


def shut(table: str, there: str, want: str) -> str:
    """What puts the kill switch of `want` into a table that is `there`, in one step.

    Its other chains stay, but for those that let something past the kill switch: they become what
    is wanted, or empty.
    """
    old, new = chains_of(there), chains_of(want)
    changed = [*KILL, *(name for name in _MARKS if name in old)]
    flushed = [f"flush chain inet {table} {name}\n" for name in changed if name in old]
    body = "\n".join(new[name] for name in changed if name in new)
    return f"{''.join(flushed)}table inet {table} {{\n{body}\n}}\n"


def opened(table: str, there: str) -> str:
    """What takes the kill switch out of a table that is `there`, in one step."""
    if set(chains_of(there)) <= set(KILL):
        return f"delete table inet {table}\n"
    return "".join(f"delete chain inet {table} {name}\n" for name in KILL)
