"""Text that comes from outside, and text that goes to a terminal.

What others say is Unicode or refused, and printed with everything escaped that a terminal could
take for more than text: C0 and C1 controls, DEL, line separators, bidirectional and other format
characters (Unicode's categories C and Z but for the space, as `str.isprintable` has them).
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterator
from typing import NoReturn

from nmk.core.nesting import check_nesting
from nmk.core.parse import quote
from nmk.errors import BadInput

_SPECIAL = re.compile(r"[^\n -~]")
_ELSEWHERE = re.compile(r"\bon (a|its|that|the) |\bthere\b")  # what another machine has to run
_CALL = re.compile(r"(?<![\w/.-])nmk(?= (--help|[a-z]+)\b)")


def _refuse(constant: str) -> NoReturn:
    raise ValueError(constant)


_DECODER = json.JSONDecoder(parse_constant=_refuse)  # NaN and Infinity are no JSON (RFC 8259, 6)


def parse_json(raw: bytes, what: str) -> object:
    """The JSON value in UTF-8 bytes; every text in it is Unicode, without lone surrogates.

    `what` it is, for the error: BadInput for anything else.
    """
    try:
        text = raw.decode()
        value: object = _DECODER.decode(text)
        check_nesting(value)
    except (ValueError, RecursionError):
        raise BadInput(f"{what} is no JSON", "send one JSON object in UTF-8") from None
    if "\\u" in text:
        for part in texts(value):
            if any("\ud800" <= c <= "\udfff" for c in part):
                raise BadInput(f"{quote(part)} in {what} is no Unicode", "send it as UTF-8")
    return value


def texts(value: object) -> Iterator[str]:
    """All texts in a value of JSON, the names of fields too."""
    pending = [value]
    while pending:
        match pending.pop():
            case str() as text:
                yield text
            case list() as items:
                pending += items
            case dict() as fields:
                pending += fields
                pending += fields.values()


def parse_plain(value: object, longest: int, what: str) -> str:
    """A text of so many printable characters at most. Raises BadInput."""
    if not isinstance(value, str) or len(value) > longest or not value.isprintable():
        raise BadInput(
            f"{quote(value)} cannot be the {what}", f"use at most {longest} printable characters"
        )
    return value


def plain(text: str) -> str:
    """The text as one line for a terminal: what is not printable is escaped as in Python."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def call_by(text: str, program: str, commands: Collection[str]) -> str:
    """The text with the commands of nmk in it as this machine starts them: by `program`.

    What is for another machine to run stays as it is.
    """
    if program == "nmk" or "nmk " not in text or _ELSEWHERE.search(text):
        return text
    known = {"--help", *commands}
    return _CALL.sub(lambda found: program if found[1] in known else found[0], text)


def render_json(value: object, *, indent: int | None = 2, is_ascii: bool = False) -> str:
    """The value as JSON that a terminal can show: the same value, what is not printable escaped.

    `is_ascii`: everything beyond ASCII as well.
    """
    text = json.dumps(value, indent=indent, ensure_ascii=is_ascii)
    return _SPECIAL.sub(_escape, text)  # of newlines there are only those of the layout


def _escape(found: re.Match[str]) -> str:
    return found[0] if found[0].isprintable() else json.dumps(found[0])[1:-1]
