"""Whether a controller answers at a URL, and what time it is there."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from itertools import repeat

from nmk.agent.http import get
from nmk.errors import NmkError

_HEALTH = "/healthz"
SECONDS = 10.0  # for a look at all URLs
_MOST_BYTES = 64 * 1024
_SAYS = b"ok\n"


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
    return Visit(url, None, _seconds(response.date))


def _seconds(date: str | None) -> float | None:
    try:
        return parsedate_to_datetime(date or "").timestamp()
    except (TypeError, ValueError):
        return None
