"""When an agent checks in next. Randomness is passed in, as a number from 0 to 1."""

from __future__ import annotations

from dataclasses import dataclass
from math import inf

from nmk.core.health import SESSION_SECONDS

SETTLE = 1.0  # seconds that a machine gets to finish changing its addresses
FIRST_PAUSE = 5.0  # seconds between the first two answers to changes that go on
LONGEST_PAUSE = 60.0
QUIET = 120.0  # seconds without a change after which the next one is a first one again
LONGEST_BACKOFF = 300  # seconds; a controller that is back is found within this, or the interval

LONGEST_PEACE = 60.0  # seconds between two looks at what another program keeps changing
QUARREL_OVER = 300.0  # seconds without such a change, after which it is not followed any more


def next_look(now: float, last: float, quarrels: int) -> float:
    """When to look at what another program has changed just now.

    `last`: when that was done last; `quarrels`: how often in a row something was amiss then. The
    first time at once, never more often than once a second, as what nmk lays itself is seen too;
    with one who changes it back each time ever more rarely.
    """
    return max(now + 0.1, last + min(max(2.0**quarrels - 1, 1.0), LONGEST_PEACE))


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


@dataclass(frozen=True, slots=True)
class Damper:
    """How changes are answered: the first at once, those that go on after pauses that double.

    `answered`: when one was answered last; `pause`: seconds after that.
    """

    answered: float = -inf
    pause: float = 0.0

    def due(self, now: float) -> float:
        """When a change that is seen now is to be answered."""
        return max(now + SETTLE, self.answered + self.pause)

    def after(self, now: float) -> Damper:
        """The damper once a change has been answered now."""
        if now - self.answered > QUIET:
            return Damper(now, FIRST_PAUSE)
        return Damper(now, min(self.pause * 2, LONGEST_PAUSE))


def is_back(heard_before: float, heard: float) -> bool:
    """Whether a handshake shows that the network is back, which a check-in did not reach.

    `heard_before`, `heard`: when the newest one of any peer was, at that failure and now. While
    peers are heard all the time, it is the controller alone that is away: they say nothing.
    """
    return heard - heard_before > SESSION_SECONDS
