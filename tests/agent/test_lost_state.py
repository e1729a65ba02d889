"""The state directory is gone while a kill switch stands: it is named, and can be removed."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nmk.agent import own_place, state
from nmk.agent.leave import leave, leave_lost
from nmk.agent.salvage import leftovers, remove_leftovers, salvage
from nmk.core.route_table import order_of, orders_of, rules_of, table_of
from nmk.core.tunnel import MARK, Command
from nmk.errors import CommandFailed
from nmk.system.routes import is_lan_rule_taken
from nmk.system.runner import Runner
from tests.agent.memberships import joined
from tests.agent.test_machine import Place, interfaces, nmk
from tests.lab import Host, Lab

LAY = "nft add table inet nmk-office; nft add chain inet nmk-office kill-output"
LAY_THEIRS = "nft add table inet nmk-backup; nft add chain inet nmk-backup forward"
THEIRS = "table inet nmk-backup\n"


def left(host: Host) -> tuple[str, str, bool]:
    """Tables of ours, rules of ours, and whether the interface is there."""
    tables = host.run("nft", "list", "tables").stdout
    rules = [r for f in ("-4", "-6") for r in host.run("ip", f, "rule").stdout.splitlines()]
    ours = [r for r in rules if r.split(":")[0] not in {"0", "32764", "32766", "32767"}]
    return tables, "\n".join(ours), "nmk-home" in interfaces(host)


def claim_by_a_user(host: Host) -> None:
    """Let a user without rights say, as an agent would, that home is in a directory of his."""
    host.run("mkdir", "/srv/his")
    host.write("/srv/his/nmk", "echo ready; sleep 300; :")
    host.write("/srv/his/home.json", "{}")
    host.run("chown", "-R", "65534:65534", "/srv/his")
    user = ("setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups")
    said = {"NMK_STATE_DIR": "/srv/his", "NMK_RUNTIME_DIR": "/etc"}
    host.start(*user, "sh", "/srv/his/nmk", "agent", env=said).wait_for("ready")


def test_a_lost_state_is_named_and_what_it_laid_is_removed() -> None:
    with Lab() as lab:
        place = Place(lab)
        gate, host = place.member("gate"), place.member("careless")
        place.admin("gateway", "add", "gate", "exit")
        assert {nmk(h, "checkin").returncode for h in (gate, host)} == {0}
        done = nmk(host, "set", "exit-node=gate", "kill-switch=on")
        assert done.returncode == 0, done.stderr
        assert left(host)[0] == "table inet nmk-home\n"
        host.run("sh", "-c", f"rm -rf /var/lib/nmk; {LAY}; {LAY_THEIRS}")
        for family, rule in rules_of(1500).all:  # as a state with such an order once had them laid
            host.run("ip", f"-{family}", "rule", "add", *rule.split())
        claim_by_a_user(host)
        # What wg-quick lays is no rule of ours.
        host.run(
            "ip", "rule", "add", "priority", "32764", "table", "main", "suppress_prefixlength", "0"
        )
        for command in (["set", "kill-switch=off"], ["join", place.token()], ["status"]):
            done = nmk(host, *command)
            assert "nmk leave -n home --force" in done.stderr, done
        told = nmk(host, "doctor")
        assert "broken  leftovers" in told.stdout, told
        assert "home" in told.stdout
        assert "nmk leave -n office --force" in told.stdout
        assert "backup" not in told.stdout
        for other in ("cabin", "backup"):
            refused = nmk(host, "leave", "-n", other, "--force")
            assert (refused.returncode, f"'{other}'" in refused.stderr) == (1, True)
        assert nmk(host, "leave", "-n", "home", "--force", "--dry-run").returncode == 0
        assert left(host)[2]
        done = nmk(host, "leave", "-n", "home", "--force")
        assert done.returncode == 0, done.stderr
        assert left(host)[::2] == (f"table inet nmk-office\n{THEIRS}", False)
        assert "31001" in left(host)[1]
        done = nmk(host, "uninstall", "--yes")
        assert done.returncode == 0, done.stderr
        assert left(host) == (THEIRS, "", False)
        assert "32764" in host.run("ip", "rule").stdout
        assert host.run("ls", "-d", "/var/lib/nmk", check=False).returncode != 0
        assert "leftovers" not in nmk(host, "doctor").stdout


def test_a_state_that_another_shell_knows_of_is_not_lost() -> None:
    """No command of a shell without NMK_STATE_DIR opens the kill switch, or says that it shall."""
    there = {"NMK_STATE_DIR": "/srv/volume/state"}
    with Lab() as lab:
        place = Place(lab)
        gate, host = place.member("gate"), place.machine("nas")
        place.admin("gateway", "add", "gate", "exit")
        host.run("mkdir", "-p", "/srv/volume")
        assert nmk(host, "join", place.token(), **there).returncode == 0
        assert {nmk(gate, "checkin").returncode, nmk(host, "checkin", **there).returncode} == {0}
        assert nmk(host, "set", "exit-node=gate", "kill-switch=on", **there).returncode == 0
        before = left(host)
        assert before[0] == "table inet nmk-home\n"
        for command, code, hint in (
            (["status"], 0, "nmk status"),
            (["set", "kill-switch=off"], 1, "nmk status"),
            (["join", place.token()], 1, "nmk status"),
            (["leave", "-n", "home", "--force"], 1, "nmk leave -n home"),
            (["uninstall", "--yes"], 1, "nmk leave -n home"),
            (["doctor"], 0, "nmk doctor"),
        ):
            done = nmk(host, *command)
            told = done.stdout + done.stderr
            assert f"NMK_STATE_DIR=/srv/volume/state {hint}" in told, told
            assert "--force" not in told, told
            assert (command, done.returncode) == (command, code), told
        assert left(host) == before
        host.run("rm", "-r", "/run/nmk")  # as after a boot; cron has begun nothing yet
        line = "* * * * * root NMK_STATE_DIR=/srv/volume/state nmk checkin"
        host.run("sh", "-c", f"mkdir -p /etc/cron.d; echo '{line}' > /etc/cron.d/mesh")
        assert "=/srv/volume/state nmk status" in nmk(host, "status").stderr
        done = nmk(host, "leave", "-n", "home", **there)
        assert (done.returncode, left(host)) == (0, ("", "", False)), done.stderr
        assert "nothing" not in nmk(host, "status").stderr


ORDERS = st.integers(0, 5_000) | st.integers(0, 2**31 - 40_000)


@given(st.sets(ORDERS, min_size=1, max_size=3))
def test_rules_of_an_order_that_no_network_can_have_are_ours(orders: set[int]) -> None:
    found = orders_of(rule for order in orders for _, rule in rules_of(order).all)
    assert orders <= found
    if len(orders) == 1:
        assert found == orders


@pytest.mark.parametrize("order", [0, 1_500, 5_000, 2**31 - 40_000])
def test_rules_of_such_an_order_are_removed_and_looked_at_again(order: int) -> None:
    """A rule that does not go is named with what removes it, and is not said to be removed."""
    told: list[str] = []
    machine = Keeping(order)
    assert leftovers(machine).orders == (order,)
    leave_lost("lost", machine, told.append)
    assert (machine.rules, told) == ([], ["what was left of lost is removed"])
    machine = Keeping(order, stays=f"priority {20_001 + 2 * order}")
    told.clear()
    with pytest.raises(CommandFailed) as raised:
        leave_lost("lost", machine, told.append)
    ends = f"ip -4 rule del priority {20_001 + 2 * order} not fwmark 0x6e6d6b table"
    assert ends in raised.value.message
    assert raised.value.hint.startswith(f"{ends} {table_of(order)} suppress_prefixlength 0")
    assert told == []


def test_no_rule_of_another_program_is_of_such_an_order() -> None:
    for order in (0, 1_500):
        ours = rules_of(order)
        assert orders_of([ours.lan, *(rule for _, rule in ours.links | ours.lans)]) == set()
        assert orders_of(r.replace("0x6e6d6b", "0x6e6d6") for _, r in ours.all) == set()
        assert orders_of([f"priority 23001 not fwmark 0x6e6d6b table {table_of(3)}"]) == set()


class Keeping(Runner):
    """A machine with the rules for IPv4 of a network of this order, but for one that comes again.

    It says no more.
    """

    def __init__(self, order: int, stays: str = "none") -> None:
        super().__init__()
        self.rules = [rule for family, rule in rules_of(order).all if family == 4]
        self.stays = stays

    def read(self, argv: Sequence[str]) -> str:
        if argv == ["ip", "-json", "-4", "rule", "show"]:
            return json.dumps([as_json(rule) for rule in self.rules])
        raise CommandFailed(f"{argv[0]} says nothing")

    def change(self, command: Command) -> None:
        for line in (command.stdin or "").splitlines():
            rule = line.removeprefix("rule del ")
            if rule in self.rules and not rule.startswith(self.stays):
                self.rules.remove(rule)


def as_json(rule: str) -> dict[str, object]:
    """A rule as `ip -json rule` has it."""
    words = [w for w in rule.split() if w not in {"not", "unreachable"}]
    said: dict[str, object] = dict(zip(words[::2], words[1::2], strict=True))
    if "to" in said:
        said["dst"], _, length = str(said.pop("to")).partition("/")
        said |= {"dstlen": int(length)} if length != "32" else {}
    if "suppress_prefixlength" in said:
        said["suppress_prefixlen"] = said.pop("suppress_prefixlength")
    said |= {"not": None} if " not " in rule else {}
    return said | ({"action": "unreachable"} if "unreachable" in rule else {})


@pytest.mark.parametrize("priority", [20_000, 20_002, 32764, 32766])
def test_rules_of_wg_quick_are_not_ours(priority: int) -> None:
    assert order_of(f"priority {priority} table main suppress_prefixlength 0") is None
    assert order_of(f"priority {priority + 1} not fwmark 0xca6c table 51820") is None
    ours = rules_of(7)
    assert {order_of(rule) for _, rule in ours.all if rule != ours.lan} == {7}


class BesideWgQuick(Runner):
    """A machine with the rules of wg-quick, from this priority on; it says no more."""

    def __init__(self, priority: int) -> None:
        super().__init__()
        self.changed: list[str] = []
        self.rules = [
            {"priority": 0, "src": "all", "table": "local"},
            {
                "priority": priority,
                "src": "all",
                "table": "main",
                "suppress_prefixlen": 0,
                "suppress_ifgroup": -1,
            },
            {
                "priority": priority + 1,
                "not": None,
                "src": "all",
                "fwmark": "0xca6c",
                "table": "51820",
            },
            {"priority": 32766, "src": "all", "table": "main"},
        ]

    def read(self, argv: Sequence[str]) -> str:
        if argv[:3] == ["ip", "-json", "-4"] and argv[3] == "rule":
            return json.dumps(self.rules)
        raise CommandFailed(f"{argv[0]} says nothing")

    def change(self, command: Command) -> None:
        self.changed.append(f"{command}: {command.stdin or ''}")


@pytest.mark.parametrize("priority", [20_000, 20_002])
def test_rules_of_wg_quick_are_no_leftovers_and_stay(priority: int, state_dir: Path) -> None:
    machine = BesideWgQuick(priority)
    assert not leftovers(machine)
    assert not remove_leftovers("lost", machine)
    # With a state that is damaged nobody knows which rules were the network's: not these.
    (state_dir / "home.json").write_text("{")
    leave("home", machine, lambda _: None, force=True)
    assert not any("rule del" in line for line in machine.changed)


@pytest.mark.parametrize("more", [{"src": "10.9.0.1"}, {"iif": "eth0"}, {"ipproto": "udp"}, {}])
def test_a_rule_that_asks_for_more_is_not_ours(more: dict[str, str]) -> None:
    machine = BesideWgQuick(20_000)
    ours = {"priority": 20_003, "not": None, "src": "all", "fwmark": hex(MARK)}
    ours |= {"table": str(table_of(1)), "suppress_prefixlen": 0}
    machine.rules.append(ours | more)
    assert leftovers(machine).orders == (() if more else (1,))


def test_a_network_is_never_of_an_order_whose_rule_another_program_has() -> None:
    machine = BesideWgQuick(20_002)
    assert [is_lan_rule_taken(machine, order) for order in (1, 2)] == [True, False]
    ours = {"priority": 20_003, "not": None, "fwmark": hex(MARK), "table": str(table_of(1))}
    machine.rules.append({**ours, "suppress_prefixlen": 0})
    assert not is_lan_rule_taken(machine, 1)  # left by a network of nmk


class Ruled(Runner):
    """A machine with rules of networks of these places, each led into that interface, or none."""

    def __init__(self, **interfaces: str) -> None:
        super().__init__()
        self.interfaces = {int(order[1:]): name for order, name in interfaces.items()}

    def read(self, argv: Sequence[str]) -> str:
        if "rule" in argv:
            shown = [
                {"priority": 30_000 + order, "src": "all", "not": None, "fwmark": hex(MARK)}
                | {"table": str(table_of(order))}
                for order in self.interfaces
            ]
            return json.dumps(shown)
        if "route" in argv and argv[-1].isdigit():
            order = int(argv[-1]) - table_of(0)
            name = self.interfaces.get(order)
            return json.dumps([{"dst": "10.9.0.0/16", "dev": name}] if name else [])
        raise CommandFailed(f"{argv[0]} says nothing")


@pytest.mark.parametrize(
    ("there", "order"),
    [
        ({"o1": "nmk-home", "o2": ""}, 2),  # the first is home's, as its state says
        ({"o1": "nmk-home", "o2": "nmk-lost", "o3": ""}, 2),
        ({"o1": "nmk-home", "o2": "", "o3": ""}, None),  # whose they are, nobody can tell
        ({"o1": "nmk-home"}, None),
    ],
)
def test_of_a_damaged_state_no_rules_are_guessed_that_may_be_anothers(
    state_dir: Path, there: dict[str, str], order: int | None
) -> None:
    state.save(replace(joined(), order=1))
    home = (state_dir / "home.json").read_bytes()
    (state_dir / "home.json").write_bytes(home[: home.index(b'"seq"')])  # damaged as well
    (state_dir / "lost.json").write_bytes(b"\0" * 1024)
    found = salvage("lost", Ruled(**there))
    assert (found.order if "routes" in found.laid else None) == order


def test_a_file_tells_what_is_laid_as_long_as_nobody_else_writes_it(state_dir: Path) -> None:
    state.save(joined())
    assert not state.tells_laid("home"), "nobody has looked yet"
    state.note_laid("home")
    state.save(replace(joined(), order=2))
    assert state.tells_laid("home")
    path = state_dir / "home.json"
    path.write_bytes(path.read_bytes())
    assert not state.tells_laid("home")
    state.save(replace(joined(), order=3))
    assert not state.tells_laid("home"), "it is as it was"


def test_of_two_networks_in_one_place_the_one_that_was_put_back_moves(state_dir: Path) -> None:
    """The later by its name, where nobody knows which that is."""
    assert not list(state_dir.iterdir())
    first, second = (
        replace(joined(), network=name, interface=f"nmk-{name}", order=1) for name in ("a", "b")
    )
    for me in (first, second):
        state.save(me)
    run = Ruled(o1="nmk-other")
    assert own_place.settle(first, run).order == 1
    assert own_place.settle(second, run).order == 2
    assert state.load("b").order == 2
    state.save(second)
    state.note_laid("b")  # which was here, and has laid what it has in place 1
    assert own_place.settle(second, run).order == 1
    assert own_place.settle(first, run).order == 2
    assert (state.load("a").order, state.load("b").order) == (2, 1)
