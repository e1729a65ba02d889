from __future__ import annotations

from ipaddress import ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from nmk.core.pool import Pool
from nmk.errors import AddressTaken, BadInput, RangeFull

SMALL = "10.0.0.0/28"  # 14 usable addresses


def filled(pool: Pool, count: int) -> list[str]:
    """The addresses that so many joins get."""
    given = []
    for _ in range(count):
        given.append(pool.next())
        pool.take(given[-1])
    return given


@pytest.mark.parametrize("cidr", [SMALL, "fd00::/124"])
def test_addresses_come_from_the_lowest_up(cidr: str) -> None:
    pool = Pool(cidr)
    base = ip_address(cidr.split("/", maxsplit=1)[0])
    assert filled(pool, 5) == [str(base + n) for n in range(1, 6)]


def test_an_address_just_freed_waits_while_others_are_free() -> None:
    pool = Pool(SMALL)
    filled(pool, 3)
    pool.free("10.0.0.2", at=100)
    assert filled(pool, 2) == ["10.0.0.4", "10.0.0.5"]
    pool.settle(before=101)
    assert pool.next() == "10.0.0.2"


def test_the_oldest_freed_address_comes_back_when_no_other_is_free() -> None:
    pool = Pool(SMALL)
    filled(pool, 14)
    pool.free("10.0.0.9", at=100)
    pool.free("10.0.0.3", at=200)
    assert filled(pool, 2) == ["10.0.0.9", "10.0.0.3"]


@pytest.mark.parametrize(("cidr", "usable"), [(SMALL, 14), ("10.0.0.0/30", 2), ("fd00::/126", 3)])
def test_a_full_range_says_so(cidr: str, usable: int) -> None:
    pool = Pool(cidr)
    assert len(set(filled(pool, usable))) == usable
    with pytest.raises(RangeFull, match=cidr):
        pool.next()


@pytest.mark.parametrize("text", ["10.0.0.0", "10.0.0.15", "10.0.1.1", "9.255.255.255", "fd00::1"])
def test_what_cannot_be_an_address_here_is_refused(text: str) -> None:
    with pytest.raises(BadInput, match=text):
        Pool(SMALL).check(text)


def test_an_address_in_use_cannot_be_asked_for() -> None:
    pool = Pool("fd00::/64")
    pool.take("fd00::7")
    with pytest.raises(AddressTaken, match="fd00::7"):
        pool.check("FD00:0::7")
    assert pool.check("FD00::8") == "fd00::8"


def test_an_address_freed_before_others_came_costs_them_no_search() -> None:
    """A machine that left at once must not make every later join walk over all that came since."""
    pool = Pool("10.0.0.0/16")
    filled(pool, 3)
    pool.free("10.0.0.3", at=100)
    filled(pool, 500)
    assert pool._fresh > 500


@given(st.permutations(range(1, 15)))
def test_whatever_goes_and_settles_the_lowest_comes_first(order: list[int]) -> None:
    pool = Pool(SMALL)
    filled(pool, 14)
    for number in order[:7]:
        pool.free(f"10.0.0.{number}", at=100)
    pool.settle(before=101)
    assert filled(pool, 7) == [f"10.0.0.{n}" for n in sorted(order[:7])]


class PoolMachine(RuleBasedStateMachine):
    """A pool beside the plainest one that could do the same: two sets and a list."""

    def __init__(self) -> None:
        super().__init__()
        self.pool = Pool(SMALL)
        self.taken: set[str] = set()
        self.freed: list[str] = []
        self.now = 0

    @property
    def plainly_free(self) -> list[str]:
        every = [f"10.0.0.{n}" for n in range(1, 15)]
        return [a for a in every if a not in self.taken and a not in self.freed]

    @rule()
    def join(self) -> None:
        if len(self.taken) == 14:
            with pytest.raises(RangeFull):
                self.pool.next()
            return
        address = self.pool.next()
        assert address == (self.plainly_free or self.freed)[0]
        self._take(address)

    @rule(number=st.integers(1, 14))
    def join_with_a_wish(self, number: int) -> None:
        address = f"10.0.0.{number}"
        if address in self.taken:
            with pytest.raises(AddressTaken):
                self.pool.check(address)
            return
        self._take(self.pool.check(address))

    @precondition(lambda self: bool(self.taken))
    @rule(data=st.data())
    def leave(self, data: st.DataObject) -> None:
        address = data.draw(st.sampled_from(sorted(self.taken)))
        self.now += 1
        self.pool.free(address, self.now)
        self.taken.remove(address)
        self.freed.append(address)

    @rule()
    def time_passes(self) -> None:
        self.now += 1
        self.pool.settle(self.now)
        self.freed.clear()

    @invariant()
    def looking_takes_nothing(self) -> None:
        if len(self.taken) < 14:
            assert self.pool.next() == self.pool.next()

    def _take(self, address: str) -> None:
        assert address not in self.taken
        self.pool.take(address)
        self.taken.add(address)
        if address in self.freed:
            self.freed.remove(address)


TestPool = PoolMachine.TestCase
