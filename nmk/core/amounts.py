"""Time spans and amounts for people."""

from __future__ import annotations

_BYTES = ("B", "KiB", "MiB", "GiB", "TiB")
FUTURE = "in the future: the clock was put back"
_LOOK = 10  # seconds; far above what a look takes
_SPANS = ((86400, "d"), (3600, "h"), (60, "m"))  # seconds


def age_of(at: int, now: float) -> int:
    """Seconds since `at`; negative where that is in the future, as the clock was put back.

    What came to be while somebody looked has just been.
    """
    age = int(now) - at
    return 0 if -_LOOK <= age < 0 else age


def show_age(seconds: int) -> str:
    """A time span in its largest whole unit: 42s, 3m, 5h, 2d."""
    for size, unit in _SPANS:
        if seconds >= 2 * size:
            return f"{seconds // size}{unit}"
    return f"{seconds}s"


def show_ago(seconds: int | None) -> str:
    """How long ago something was; None: never; negative: by a clock that was put back since."""
    if seconds is None:
        return "never"
    return FUTURE if seconds < 0 else f"{show_age(seconds)} ago"


def show_since(seconds: int) -> str:
    """For how long something has been so; negative as above."""
    return f"since a time {FUTURE}" if seconds < 0 else f"for {show_age(seconds)}"


def show_bytes(count: int) -> str:
    """A number of bytes for people: 17 B, 2.5 MiB."""
    size, unit = float(count), 0
    while size >= 1024 and unit < len(_BYTES) - 1:
        size, unit = size / 1024, unit + 1
    return f"{count} B" if unit == 0 else f"{size:.1f} {_BYTES[unit]}"
