"""A model of one routing table and the rules that lead to it, from ip-route(8) and ip-rule(8).

It refuses what it does not know, and what the kernel refuses: a rule that is there already, and
to delete what is not there as it was said.
"""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import ip_address, ip_network

from nmk.core.links import CLOUDS, LAN_RANGES, LINKS
from nmk.core.parse import Address
from nmk.core.route_table import RouteTable, shut_table_of, table_of
from nmk.core.tunnel import MARK, Command

TUNNEL, OUT, NOWHERE = "nmk-home", "eth0", "nowhere"
MAIN = ("192.168.1.0/24", "fd00:1::/64", "0.0.0.0/0", "::/0")  # the main table: all by eth0
_LAST = 32766  # priority of the main table's own rule


class Router:
    """A machine with a LAN. `log`: all states of the table that it has been in."""

    def __init__(self, table: int, live: RouteTable) -> None:
        self.table = table
        self.led = set(live.led)
        self.rules = set(live.rules)
        self.shut, self.narrow = live.shut, set() if live.is_wide else set(live.led)
        self.log = [live]

    @property
    def now(self) -> RouteTable:
        """What `probe_table` would find."""
        return RouteTable(frozenset(self.led), frozenset(self.rules), self.shut, not self.narrow)

    def run(self, command: Command) -> None:
        program, option, *rest = command.argv
        assert (program, rest) == ("ip", ["-force", "-batch", "-"]), f"no such command: {command}"
        family = {"-4": 4, "-6": 6}[option]
        assert command.stdin
        assert command.stdin.endswith("\n")
        for line in command.stdin.splitlines():
            self._line(family, line, str(self.table))
            self.log.append(self.now)

    def _line(self, family: int, line: str, table: str) -> None:
        match line.split(" "):
            case ["rule", "add", *words]:
                rule = (family, " ".join(words))
                assert kind_of(rule[1], self.table)
                assert rule not in self.rules, "RTNETLINK answers: File exists"
                self.rules.add(rule)
            case ["rule", "del", *words]:
                self.rules.remove((family, " ".join(words)))
            case ["route", "replace", cidr, "dev", "nmk-home", "table", number, "scope", "global"]:
                assert (number, ip_network(cidr).version) == (table, family)
                self.led.add(cidr)
                self.narrow.discard(cidr)
            case ["route", "del", cidr, "dev", "nmk-home", "table", number]:
                assert (number, ip_network(cidr).version) == (table, family)
                self.led.remove(cidr)
                self.narrow.discard(cidr)
            case ["route", ("replace" | "del") as verb, "unreachable", "default", "table", number]:
                assert (number, family) == (str(_shut(self.table)), 4)
                assert self.shut == (verb == "del")
                self.shut = not self.shut
            case _:
                raise AssertionError(f"no such line: {line}")


def leads(live: RouteTable, table: int, text: str, *, marked: bool = False) -> str:
    """Where a packet to the address leaves: as the rules say in their order, else as MAIN does."""
    address = ip_address(text)
    rules = [rule for family, rule in live.rules if family == address.version]
    for rule in sorted(rules, key=priority_of):
        found = longest(address, live.led)
        match kind_of(rule, table):
            case "lan" | "lans" if _is_in(address, rule) and _main(address) > _least(rule):
                return OUT
            case "ranges" if found and not marked:
                return TUNNEL
            case "everything" if found is not None and not marked:
                return TUNNEL
            case ("closed" | "shut") as kind if not marked and (kind == "closed" or live.shut):
                return NOWHERE
            case "links" if _is_in(address, rule):
                return OUT
    return OUT


def _is_in(address: Address, rule: str) -> bool:
    words = rule.split(" ")
    return "to" not in words or address in ip_network(words[3])


def _main(address: Address) -> int:
    return longest(address, MAIN) or 0


def _least(rule: str) -> int:
    """The prefix length, of the main table's routes, that is suppressed with all shorter ones."""
    return int(rule.rpartition(" ")[2])


def kind_of(rule: str, table: int) -> str:
    """What a rule is for; no rule but those of nmk."""
    assert 0 < priority_of(rule) < _LAST
    match rule.split(" ")[2:]:
        case ["to", cidr, "goto", "32766"]:
            return dict.fromkeys((*LINKS, *CLOUDS), "links")[cidr]
        case ["to", cidr, "table", "main", "suppress_prefixlength", "11" | "47"]:
            assert cidr in LAN_RANGES
            return "lans"
    mark, number = hex(MARK), str(table)
    for kind, words in {
        "lan": ["table", "main", "suppress_prefixlength", "0"],
        "ranges": ["not", "fwmark", mark, "table", number, "suppress_prefixlength", "0"],
        "everything": ["not", "fwmark", mark, "table", number],
        "shut": ["not", "fwmark", mark, "table", str(_shut(table))],
        "closed": ["not", "fwmark", mark, "unreachable"],
    }.items():
        if rule.split(" ")[2:] == words:
            return kind
    raise AssertionError(f"no such rule: {rule}")


def _shut(table: int) -> int:
    return shut_table_of(table - table_of(0))


def priority_of(rule: str) -> int:
    word, number, *_ = rule.split(" ")
    assert word == "priority"
    return int(number)


def longest(address: Address, cidrs: Iterable[str]) -> int | None:
    """The longest prefix that holds the address, None for none."""
    ranges = map(ip_network, cidrs)
    return max((r.prefixlen for r in ranges if address in r), default=None)
