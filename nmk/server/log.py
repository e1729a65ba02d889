"""The controller's log: one line per event, as text or JSON, on standard error. No secrets."""

from __future__ import annotations

import json
import logging
import sys
import threading
import time
from collections.abc import Callable
from datetime import datetime, timezone
from math import inf

from nmk.core.text import plain

_LOGGER = logging.getLogger("nmk")
_QUIET_SECONDS = 60
_AGAIN_SECONDS = 3600
_MOST_SAID = 300  # characters
_told: dict[tuple[str, object], tuple[float, int]] = {}


def log_event(event: str, **fields: object) -> None:
    """Write one event with its fields."""
    _LOGGER.info(event, extra={"fields": fields})


def log_trouble(event: str, **fields: object) -> None:
    """Write one event that somebody should look at."""
    _LOGGER.warning(event, extra={"fields": fields})


def log_seldom(event: str, **fields: object) -> None:
    """Write one event that others can cause as often as they like: one line a minute and reason.

    `more` counts those that were left out since the last line.
    """
    kind = (event, fields.get("reason"))
    at, more = _told.get(kind, (-inf, 0))
    now = time.monotonic()
    if now - at < _QUIET_SECONDS:
        _told[kind] = (at, more + 1)
        return
    _told[kind] = (now, 0)
    log_trouble(event, **fields, **({"more": more} if more else {}))


class Lasting:
    """A trouble that is met again and again while it lasts, and is told of seldom. Thread-safe.

    When it begins; when it is another one, or begins anew, a minute after the last line at the
    earliest; else once an hour. That it is `over` is told where its beginning was.
    """

    def __init__(
        self, event: str, over: str, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self._event = event
        self._over = over
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._told: dict[str, object] | None = None
        self._at = -inf

    def tell(self, **fields: object) -> None:
        """It is there, with these fields."""
        now = self._monotonic()
        with self._lock:
            quiet = _AGAIN_SECONDS if fields == self._told else _QUIET_SECONDS
            if now - self._at < quiet:
                return
            self._told, self._at = fields, now
        log_trouble(self._event, **fields)

    def end(self, **fields: object) -> None:
        """It is not there, or not any more."""
        if self._told is None:
            return
        with self._lock:
            told, self._told = self._told, None
        if told is not None:
            log_event(self._over, **fields)


def iso_time(at: float | None) -> str | None:
    """Seconds since 1970 as RFC 3339 in UTC, whole seconds; None stays None."""
    if at is None:
        return None
    return datetime.fromtimestamp(int(at), timezone.utc).isoformat().replace("+00:00", "Z")


class _Formatter(logging.Formatter):
    def __init__(self, *, as_json: bool) -> None:
        super().__init__()
        self._as_json = as_json

    def format(self, record: logging.LogRecord) -> str:
        fields: dict[str, object] = getattr(record, "fields", {})
        if record.exc_info:
            fields = {**fields, "traceback": self.formatException(record.exc_info)}
        created = iso_time(record.created)
        if self._as_json:
            line = {
                "time": created,
                "level": record.levelname.lower(),
                "event": record.getMessage(),
            }
            return json.dumps(line | fields, default=str)
        pairs = (
            f"{k}={json.dumps(str(v)) if _needs_quotes(str(v)) else v}" for k, v in fields.items()
        )
        return " ".join([f"{created} {plain(record.getMessage())}", *pairs])


class _Library(logging.Handler):
    """What the HTTP library says: clients can cause it, so one line a minute and place in it."""

    def emit(self, record: logging.LogRecord) -> None:
        where = f"{record.module}.{record.funcName}"
        said = plain(record.getMessage()[:_MOST_SAID])
        trace = {}
        if record.exc_info:
            trace["traceback"] = logging.Formatter().formatException(record.exc_info)
        log_seldom("http-trouble", reason=where, said=said, **trace)


def start_log(log_format: str) -> None:
    """Send events to standard error, `log_format` being text or json."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Formatter(as_json=log_format == "json"))
    _LOGGER.handlers = [handler]
    _LOGGER.setLevel(logging.INFO)
    _LOGGER.propagate = False
    logging.getLogger("waitress").handlers = [_Library()]
    logging.getLogger("waitress").propagate = False
    logging.getLogger("waitress.queue").setLevel(logging.ERROR)  # a line per queued request


def tell_left_out(log_format: str, lines: int) -> str:
    """The event that so many lines were left out, as nobody read the log."""
    fields = {"levelname": "WARNING", "msg": "log-left-out", "fields": {"lines": lines}}
    return _Formatter(as_json=log_format == "json").format(logging.makeLogRecord(fields))


def _needs_quotes(text: str) -> bool:
    return not text or not text.isprintable() or any(c in ' "=\\' for c in text)
