"""Errors as `application/problem+json` (RFC 9457), with our codes."""

from __future__ import annotations

import json
from http import HTTPStatus

from nmk.errors import NmkError

CONTENT_TYPE = "application/problem+json"


class MethodNotAllowed(NmkError):
    """The path exists, with another method."""

    code, status = "method-not-allowed", 405
    default_hint = "see docs/protocol.md for agents, docs/controller.md for admins"


class AnswerTooLong(NmkError):
    """A list is too long for one answer."""

    code, status = "answer-too-long", 500
    default_hint = "ask for each by its name; remove those that are not needed any more"


def problem(error: NmkError) -> tuple[str, bytes]:
    """The HTTP status line and the body for an error."""
    status = HTTPStatus(error.status)
    body = {
        "type": "about:blank",
        "title": status.phrase,
        "status": status.value,
        "detail": error.message,
        "code": error.code,
        "hint": error.hint,
    }
    return f"{status.value} {status.phrase}", json.dumps(body).encode() + b"\n"
