"""How the clients of a hub are called: what the comments of its file say, as DNS labels."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from itertools import chain, count, dropwhile

MOST_CLIENTS = 4_000  # one request of 1 MiB holds them with the longest names and addresses
_MOST_COMMENTS = 32  # of a section, that are looked at for a name
_LONGEST_LABEL = 63
_STEM = _LONGEST_LABEL - len(f"-{MOST_CLIENTS}")  # of a name that gets a number
_NAMELESS = "client"
_APOSTROPHES = "'\u2019"

_KEY = re.compile(r"(?<![A-Za-z0-9+/])[A-Za-z0-9+/]{43,}=*")
# The ways in which a comment says a peer's name, the most deliberate first. In what is written with
# single spaces; none of them reads a comment more often than a few times, whatever is in it.
_WAYS = tuple(
    tuple(re.compile(pattern, re.IGNORECASE) for pattern in patterns)
    for patterns in (
        # prometheus_wireguard_exporter, wg-gen-web; wireguard-ui
        (r"#+ ?(?:friendly_)?name ?[=:] ?(.+)",),
        (
            r"#+ ?client: ?(.*?) ?(?:\([0-9a-f-]+\))?",  # wg-easy, with an id
            r"### ?client (.+)",  # angristan/wireguard-install
            r"### ?begin (.+?) ?###",  # PiVPN
            r"# ?begin_peer (.+)",  # Nyr/wireguard-install
            r"# ?((?:(?! / ).)+) / .*updated:.*",  # wg-gen-web, with a mail address and times
            r"# ?peer_(.+)",  # linuxserver/wireguard
        ),
        # What is longer than a label is prose; what has a = or : was a setting, or is a note.
        (r"[# ]+(?!end\b|end_peer\b)([^=:# ][^=:]{0,62})",),
    )
)
_TOOLS = _WAYS[1]
_TAKEN_OUT = re.compile(r"[# ]*\[(?:interface|peer|disabled)\]", re.IGNORECASE)  # last: PiVPN


def in_use(run: list[str]) -> list[str]:
    """Comments without what is, or may be, of sections that were taken out of use."""
    last = max((n for n, comment in enumerate(run) if _TAKEN_OUT.match(comment)), default=None)
    if last is None:
        return run
    return [*dropwhile(lambda c: _match(_TOOLS, c) is None, run[last + 1 :])]


def name_in(comments: Sequence[str]) -> str | None:
    """The label of the best name in a peer's comments, the likeliest of them first."""
    found: list[list[str]] = [[] for _ in _WAYS]
    for comment in comments[:_MOST_COMMENTS]:
        for labels, patterns in zip(found, _WAYS, strict=True):
            text = _match(patterns, comment)
            if text is not None:
                labels.append(_label(text))
                break
    return next((label for label in chain(*found) if label), None)


def _match(patterns: Sequence[re.Pattern[str]], comment: str) -> str | None:
    found = (pattern.fullmatch(comment) for pattern in patterns)
    return next((match[1] for match in found if match), None)


def _label(text: str) -> str:
    """The DNS label nearest to a name, without accents; "" where nothing is left."""
    letters = unicodedata.normalize("NFKD", without_keys(text).casefold())
    kept = "".join(c for c in letters if not unicodedata.combining(c) and c not in _APOSTROPHES)
    return re.sub(r"[^a-z0-9]+", "-", kept).strip("-")[:_LONGEST_LABEL].rstrip("-")


def distinct(labels: Sequence[str | None]) -> list[str]:
    """Names that differ: the first to have a label keeps it, the others get a number."""
    taken = {label for label in labels if label}
    kept: set[str] = set()
    last = {_NAMELESS: 0}
    names = []
    for label in labels:
        if label and label not in kept:
            kept.add(label)
            names.append(label)
            continue
        stem = (label or _NAMELESS)[:_STEM].rstrip("-")
        numbers = count(last.get(stem, 1) + 1)
        last[stem] = next(n for n in numbers if f"{stem}-{n}" not in taken)
        names.append(f"{stem}-{last[stem]}")
    return names


def without_keys(text: str) -> str:
    """A text to quote: what looks like a key in it may be a secret in a wrong place."""
    return _KEY.sub("...", text)
