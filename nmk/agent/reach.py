"""Whether a controller answers at a URL, and what time it is there."""

from __future__ import annotations

from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from http.client import HTTPException

from nmk.agent.http import connection_to

_HEALTH = "/healthz"
_SAYS = b"ok\n"


@dataclass(frozen=True, slots=True)
class Visit:
    """One look at a URL: what is wrong, or None; and the time there, in seconds since 1970."""

    url: str
    problem: str | None
    date: float | None = None


def visit(url: str) -> Visit:
    """Ask a controller how it is."""
    connection = connection_to(url)
    try:
        connection.request("GET", _HEALTH)
        response = connection.getresponse()
        body, date = response.read(len(_SAYS) + 1), response.getheader("Date")
    except (OSError, UnicodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else None
        return Visit(url, f"cannot be reached: {reason or error}")
    except (HTTPException, ValueError) as error:
        return Visit(url, f"answers with no HTTP: {error!r:.80}")
    finally:
        connection.close()
    if response.status != HTTPStatus.OK or body != _SAYS:
        return Visit(url, f"is no controller: it answers {_HEALTH} with {response.status}")
    return Visit(url, None, _seconds(date))


def _seconds(date: str | None) -> float | None:
    try:
        return parsedate_to_datetime(date or "").timestamp()
    except (TypeError, ValueError):
        return None
