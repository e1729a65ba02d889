"""When an agent checks in next. Randomness is passed in, as a number from 0 to 1."""

from __future__ import annotations

LONGEST_BACKOFF = 300  # seconds; a controller that is back is found within this, or the interval


def next_delay(interval: int, failures: int, random: float) -> float:
    """Seconds until the next check-in, after so many failures in a row.

    A tenth of jitter keeps agents apart that were started together. After failures the wait
    doubles, and is spread from half of it to one and a half: a controller that comes back after
    long meets its agents one by one.
    """
    if failures == 0:
        return interval * (0.9 + 0.2 * random)
    longest = max(interval, LONGEST_BACKOFF)
    return min(interval * 2.0 ** min(failures, 16), longest) * (0.5 + random)
