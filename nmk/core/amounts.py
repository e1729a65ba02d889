"""Time spans and amounts for people."""

from __future__ import annotations

_BYTES = ("B", "KiB", "MiB", "GiB", "TiB")
_SPANS = ((86400, "d"), (3600, "h"), (60, "m"))  # seconds


def show_age(seconds: int) -> str:
    """A time span in its largest whole unit: 42s, 3m, 5h, 2d."""
    for size, unit in _SPANS:
        if seconds >= 2 * size:
            return f"{seconds // size}{unit}"
    return f"{seconds}s"


def show_ago(seconds: int | None) -> str:
    """How long ago something was; None: never."""
    return "never" if seconds is None else f"{show_age(seconds)} ago"


def show_bytes(count: int) -> str:
    """A number of bytes for people: 17 B, 2.5 MiB."""
    size, unit = float(count), 0
    while size >= 1024 and unit < len(_BYTES) - 1:
        size, unit = size / 1024, unit + 1
    return f"{count} B" if unit == 0 else f"{size:.1f} {_BYTES[unit]}"
