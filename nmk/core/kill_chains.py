"""The kill switch in a table that otherwise stays as it is: text for nft(8)."""

from __future__ import annotations

import re
from collections.abc import Collection

from nmk.core.ruleset import KILL, OLD_KILL
from nmk.core.tunnel import MARK

_CHAIN = re.compile(r"^\tchain (\S+) \{\n.*?^\t\}$", re.MULTILINE | re.DOTALL)
_MARKS = ("premark", "answer")  # of an older table they would mark what nothing may leave by


def chains_of(table: str) -> dict[str, str]:
    """The chains of a table by their names, as we write it or nft lists it."""
    return {found[1]: found[0] for found in _CHAIN.finditer(table)}


def is_shut(table: str) -> bool:
    """Whether the kill switch is in a table, as nft lists it; also as 0.2.0 has laid it."""
    ends = {name: chain.splitlines()[-2].strip() for name, chain in chains_of(table).items()}
    judge, leaving, local, forward = (ends.get(name, "") for name in KILL)
    judged = all(end.endswith(f"goto {KILL[0]}") for end in (leaving, local))
    is_new = judged and (judge, forward) == ("drop", "drop")
    return is_new or all(ends.get(name) == "drop" for name in OLD_KILL)


def shut(table: str, there: str, want: str) -> str:
    """What puts the kill switch of `want` into a table that is `there`, in one step.

    Its other chains stay, but for those that let something past the kill switch: they become what
    is wanted, or empty.
    """
    old, new = chains_of(there), chains_of(want)
    changed = [*KILL, *(name for name in _MARKS if name in old)]
    flushed = [f"flush chain inet {table} {name}\n" for name in changed if name in old]
    flushed += [f"delete chain inet {table} {name}\n" for name in _kills(old) if name not in KILL]
    body = "\n".join(new[name] for name in changed if name in new)
    return f"{''.join(flushed)}table inet {table} {{\n{body}\n}}\n"


def opened(table: str, there: str) -> str:
    """What takes the kill switch out of a table that is `there`, in one step."""
    old = chains_of(there)
    kills = _kills(old)
    if len(kills) == len(old):
        return f"delete table inet {table}\n"
    flushed = [f"flush chain inet {table} {name}\n" for name in kills]  # none names another then
    return "".join([*flushed, *(f"delete chain inet {table} {name}\n" for name in kills)])


def silenced(table: str, there: str) -> str:
    """What ends, in the table of another network, that connections are answered outside; or "".

    Its answers would carry the mark that lets past the kill switch.
    """
    if "answer" not in chains_of(there):
        return ""
    flushed = [f"flush chain inet {table} {name}\n" for name in _MARKS]
    kept = f"ct mark {MARK:#x} meta mark set ct mark"
    return "".join([*flushed, f"add rule inet {table} {_MARKS[0]} {kept}\n"])


def _kills(chains: Collection[str]) -> list[str]:
    return [name for name in dict.fromkeys((*KILL, *OLD_KILL)) if name in chains]
