"""Whether a controller answers at a URL, and what time it is there."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime, timezone
from http import HTTPStatus
from itertools import repeat
from re import ASCII
from re import compile as pattern

from nmk.agent.http import get
from nmk.errors import NmkError

_HEALTH = "/healthz"
SECONDS = 10.0  # for a look at all URLs
_MOST_BYTES = 64 * 1024
_SAYS = b"ok\n"
_MONTHS = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"]
_DATE = pattern(
    rf"(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun), (\d\d) ({'|'.join(_MONTHS)}) (\d{{4}})"
    r" (\d\d):(\d\d):(\d\d) GMT",
    ASCII,
)


@dataclass(frozen=True, slots=True)
class Visit:
    """One look at a URL: what is wrong, or None; and the time there, in seconds since 1970."""

    url: str
    problem: str | None
    date: float | None = None


def visit_all(urls: Sequence[str], seconds: float = SECONDS) -> list[Visit]:
    """Ask a controller how it is, at all its URLs at once, in so many seconds."""
    with ThreadPoolExecutor(max(1, len(urls))) as pool:
        return list(pool.map(visit, urls, repeat(seconds)))


def visit(url: str, seconds: float = SECONDS) -> Visit:
    """Ask a controller how it is."""
    try:
        response = get(url, _HEALTH, _MOST_BYTES, seconds)
    except NmkError as error:
        problem = error.message.replace(f"cannot reach {url}", "cannot be reached")
        return Visit(url, problem.removeprefix(f"{url} "))
    if response.status != HTTPStatus.OK or response.body != _SAYS:
        return Visit(url, f"is no controller: it answers {_HEALTH} with {response.status}")
    return Visit(url, None, parse_date(response.date or ""))


def parse_date(text: str) -> float | None:
    """Seconds since 1970 of an HTTP date, such as "Mon, 05 Jan 2026 10:00:00 GMT".

    None for what is none as servers have to write it (RFC 9110, IMF-fixdate).
    """
    found = _DATE.fullmatch(text)
    if found is None:
        return None
    day, month, *numbers = found.groups()
    year, hour, minute, second = map(int, numbers)
    number = _MONTHS.index(month) + 1
    try:
        at = datetime(year, number, int(day), hour, minute, second, tzinfo=timezone.utc)
    except ValueError:  # such as a 31st of February
        return None
    return at.timestamp()
