"""When an agent checks in next. Randomness is passed in, as a number from 0 to 1."""

from __future__ import annotations

LONGEST_BACKOFF = 300  # seconds; a controller that is back is found within this, or the interval

LONGEST_PEACE = 60.0  # seconds between two looks at what another program keeps changing
QUARREL_OVER = 300.0  # seconds without such a change, after which it is not followed any more


def next_look(now: float, last: float, quarrels: int) -> float:
    """When to look at what another program has changed just now.

    `last`: when that was done last; `quarrels`: how often in a row something was amiss then. The
    first time at once; with one who changes it back each time ever more rarely.
    """
    return max(now + 0.1, last + min(2.0**quarrels - 1, LONGEST_PEACE))


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
