"""A kill switch where nft, a state file or a name in one is not as it should be."""

from __future__ import annotations

import errno
import subprocess
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from nmk.agent import state
from nmk.agent.desired import desired
from nmk.agent.doctor import examine
from nmk.agent.heads import marked
from nmk.agent.membership import Membership, Wishes
from nmk.agent.mend import mend_network, shut_network, shut_networks
from nmk.agent.salvage import salvage
from nmk.agent.status import status
from nmk.agent.tick import check_in_network, put_right
from nmk.agent.wishes import note
from nmk.cli.cut_off import tell_cut_off_of
from nmk.cli.machine_status import render_status
from nmk.core.kill_chains import chains_of, is_shut
from nmk.core.tunnel import MARK, Command
from nmk.errors import (
    BadInput,
    CommandFailed,
    CommandUnanswered,
    NmkError,
    StateDamaged,
    StateUnwritable,
    ToolMissing,
)
from nmk.system.keys import generate_private_key, public_key
from nmk.system.runner import Runner
from tests.agent.memberships import full_view, joined, joining, peer, told

OLDER = """table inet nmk-home {
\tchain links {
\t\ttype filter hook forward priority raw; policy accept;
\t\tdrop
\t}

\tchain forward {
\t\ttype filter hook forward priority filter; policy accept;
\t\tdrop
\t}

\tchain premark {
\t\ttype filter hook prerouting priority mangle; policy accept;
\t\tct mark 0x006e6d6b meta mark set ct mark
\t\tct mark 0x00000000 fib daddr type local ct mark set 0x006e6d6b meta mark set 0x006e6d6b
\t}

\tchain answer {
\t\ttype route hook output priority mangle; policy accept;
\t\tct mark 0x006e6d6b meta mark set ct mark
\t}
}
"""


class Nft(Runner):
    """A machine that has nothing but nft, with one table; it refuses texts with a word of these."""

    def __init__(self, there: str = "", *refused: str) -> None:
        super().__init__()
        self.there = there
        self.refused = refused
        self.changes = 0

    def read(self, argv: Sequence[str]) -> str:
        if argv[:4] == ["nft", "--stateless", "list", "table"] and self.there:
            return self.there
        if argv[:3] == ["nft", "list", "tables"] and self.there:
            return "table inet nmk-home\n"
        raise CommandFailed(f"{argv[0]} says nothing")

    def change(self, command: Command) -> None:
        text = command.stdin or ""
        if command.argv[0] != "nft" or any(word in text for word in self.refused):
            raise CommandFailed(f"{command.argv[0]} does not take that")
        self.changes += 1
        chains = chains_of(self.there)
        lines = text.partition("table inet nmk-home {")[0].splitlines()
        for words in map(str.split, lines):
            match words:
                case ["delete", "table", *_]:
                    chains = {}
                case ["delete", "chain", _, _, name]:
                    del chains[name]
                case ["flush", "chain", _, _, name]:
                    first = chains[name].splitlines()[:2]
                    chains[name] = "\n".join([*first, "\t}"])
        for name, new in chains_of(text).items():
            kept = chains[name].splitlines()[:-1] if name in chains else []
            chains[name] = "\n".join([*kept, *new.splitlines()[2:]]) if kept else new
        body = "\n\n".join(chains.values())
        self.there = f"table inet nmk-home {{\n{body}\n}}\n" if chains else ""


@pytest.fixture(autouse=True)
def tools(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nmk.agent.surroundings.has_tool", lambda _: True)
    monkeypatch.setattr("nmk.system.filter.has_tool", lambda _: True)
    monkeypatch.setattr("nmk.system.sysctl.write", lambda *_: None)
    monkeypatch.setattr("nmk.agent.kill_switch._shut_alone", {})


def guarded(**wishes: str) -> Membership:
    """A machine with a kill switch that `nmk set` has noted, which has had a filter before."""
    me = replace(joined(peer(2)), interface="nmk-none", laid=frozenset({"filter"}))
    settings: dict[str, int | str] = {"exit-node": "peer-2", "kill-switch": "on", **wishes}
    return replace(me, wishes=Wishes(settings=settings), urls=("http://127.0.0.1:9",), as_read={})


ACTIONS: list[Callable[[str, Runner], object]] = [
    shut_network,
    put_right,
    mend_network,
    check_in_network,
]


@pytest.mark.parametrize("action", ACTIONS, ids=lambda a: a.__name__)
@pytest.mark.parametrize("there", ["", OLDER], ids=["none", "older"])
@pytest.mark.parametrize("refused", ["guard-input", "flush"])
@pytest.mark.usefixtures("state_dir")
def test_a_kill_switch_is_laid_where_nft_refuses_the_rest(
    action: Callable[[str, Runner], object], there: str, refused: str
) -> None:
    """Whatever table is there; what an older one had beside it stays where it can."""
    state.save(guarded())
    run = Nft(there, "guard-input", refused)
    for _ in range(2):
        with suppress(NmkError):  # no interface can be made here
            action("home", run)
    chains = chains_of(run.there)
    assert is_shut(run.there)
    assert ("forward" in chains) == (there == OLDER and refused == "guard-input")
    assert "0x006e6d6b meta mark set 0x006e6d6b" not in run.there  # no way past it
    assert len(chains.get("answer", "").splitlines()) in {0, 3}
    assert run.changes == 1


@pytest.mark.parametrize("there", ["", OLDER], ids=["none", "older"])
@pytest.mark.usefixtures("state_dir")
def test_its_owner_opens_it_though_nft_refuses_the_rest(there: str) -> None:
    state.save(guarded())
    run = Nft(there, "guard-input")
    with suppress(NmkError):
        put_right("home", run)
    assert is_shut(run.there)
    state.save(guarded(**{"kill-switch": "off"}))
    with suppress(NmkError):
        put_right("home", run)
    assert "kill-" not in run.there
    assert bool(run.there) == (there == OLDER)


@pytest.mark.parametrize("off", [{"kill-switch": "off"}, {"exit-node": ""}])
@pytest.mark.usefixtures("state_dir")
def test_its_owner_opens_it_though_no_interface_can_be_made(
    monkeypatch: pytest.MonkeyPatch, off: dict[str, str]
) -> None:
    """As where `wg` has gone, and wireguard-go has made one of which nothing can be told."""

    def probe(*_: object) -> None:
        raise ToolMissing("the program 'wg' is not installed")

    monkeypatch.setattr("nmk.agent.interface.wireguard.probe", probe)
    state.save(guarded())
    run = Nft()
    with pytest.raises(ToolMissing):
        put_right("home", run)
    assert is_shut(run.there)
    state.save(guarded(**off))
    with pytest.raises(ToolMissing):
        put_right("home", run)
    assert "kill-" not in run.there


def beside(**changes: Any) -> Membership:
    """Another network of the machine, which leads to a range of its own."""
    egress = {"ranges": ["192.168.55.0/24"], "nat": "auto", "interface": None, "metric": 1}
    leads = {**peer(3), "addresses": ["10.78.0.3"], "gateway": {"egress": egress}}
    me = joining(network="work", remote_name="work", interface="nmk-work", order=2)
    view = full_view(me, leads)
    view["network"]["cidrs"], view["self"]["addresses"] = ["10.78.0.0/24"], ["10.78.0.1"]
    me = replace(told(me, view), phase="joined")
    return replace(me, **changes)


def answers() -> bool:
    """Whether that network's table has who calls from outside answered outside."""
    text = desired(beside(), {}, ()).surroundings.ruleset or ""
    assert "chain premark" in text
    assert ("chain answer" in text) == ("ct mark set 0x6e6d6b" in text)
    return "chain answer" in text


@pytest.mark.usefixtures("state_dir")
def test_no_other_network_lets_anything_past_a_kill_switch() -> None:
    """Not while the one that has it is down, or deleted, or nobody can tell what it wants."""
    state.save(beside())
    assert answers()
    for shuts in (
        guarded(),
        replace(guarded(), down=True),
        replace(guarded(), phase="deleted"),
    ):
        state.save(shuts)
        assert not answers()
    for opens in (
        guarded(**{"kill-switch": "off"}),
        guarded(**{"exit-node": ""}),
        replace(guarded(), phase="joining"),
    ):
        state.save(opens)
        assert answers()


def test_no_other_network_lets_anything_past_a_kill_switch_whose_state_is_damaged(
    state_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = Nft()
    monkeypatch.setattr("nmk.agent.desired.Runner", lambda: run)
    monkeypatch.setattr("nmk.agent.others.Runner", lambda **_: run)
    monkeypatch.setattr("nmk.agent.others.marked", marked)
    monkeypatch.setattr("nmk.agent.others._marked", {})
    state.save(guarded())
    damage(state_dir, "cut")
    assert not answers(), "one is noted"
    (state_dir / "home.kill-switch").unlink()
    assert answers(), "there is none"
    shut_networks(run)
    assert is_shut(run.there)
    assert not answers()


class Two(Nft):
    """The same with a table of another network, and what becomes of it."""

    def __init__(self, beside: str) -> None:
        super().__init__()
        self.beside = beside
        self.order: list[str] = []

    def read(self, argv: Sequence[str]) -> str:
        if argv[:3] == ["nft", "list", "tables"]:
            return "table inet nmk-home\ntable inet nmk-work\n"
        return self.beside if argv[-1] == "nmk-work" else super().read(argv)

    def change(self, command: Command) -> None:
        table = "nmk-work" if "inet nmk-work" in (command.stdin or "") else "nmk-home"
        self.order.append(table)
        if table == "nmk-home":
            super().change(command)


@pytest.mark.parametrize("damaged", [False, True])
def test_one_that_is_laid_ends_what_other_tables_let_past_it_first(
    state_dir: Path, damaged: bool
) -> None:
    """Not only once these networks have been looked at."""
    state.save(beside())
    state.save(guarded())
    if damaged:
        damage(state_dir, "cut")
    run = Two(OLDER.replace("nmk-home", "nmk-work"))
    for _ in range(2):
        shut_networks(run)
    assert run.order == ["nmk-work", "nmk-home"]


class Wg(Nft):
    """The same with a `wg` that knows these interfaces, each with a private key and a mark."""

    def __init__(self, **interfaces: tuple[str, str]) -> None:
        super().__init__()
        self.interfaces = interfaces

    def read(self, argv: Sequence[str]) -> str:
        name = argv[2].replace("-", "_")
        if argv[0] == "wg" and name in self.interfaces:
            key, mark = self.interfaces[name]
            return f"{key}\t{public_key(key)}\t51821\t{mark}\n"
        return super().read(argv)


OURS, THEIRS = generate_private_key(), generate_private_key()


@pytest.mark.parametrize(
    ("named", "live", "ours"),
    [
        ("eth0", {}, "nmk-alpha"),  # no WireGuard interface
        ("eth0", {"eth0": (THEIRS, "off")}, "nmk-alpha"),  # another's
        ("eth0", {"eth0": (OURS, "off")}, "eth0"),
        ("eth0", {"eth0": (THEIRS, hex(MARK))}, "eth0"),
        ("eth7", {}, None),  # it is not there, and may come
        ("nmk-alpha", {}, "nmk-alpha"),
    ],
)
def test_what_a_damaged_file_names_opens_no_kill_switch(
    state_dir: Path,
    monkeypatch: pytest.MonkeyPatch,
    named: str,
    live: dict[str, tuple[str, str]],
    ours: str | None,
) -> None:
    """Nor is it taken for the network's own, and removed or left in its place."""
    run = Wg(**live)
    monkeypatch.setattr("nmk.system.wireguard.exists", lambda name: name == "eth0")
    monkeypatch.setattr("nmk.agent.others.Runner", lambda **_: run)
    monkeypatch.setattr("nmk.agent.others.marked", marked)
    monkeypatch.setattr("nmk.agent.others._marked", {})
    begins = '"version":1,"network":"alpha","remote_name":"alpha"'
    text = f'{{{begins},"interface":"{named}","private_key":"{OURS}","order":1'
    (state_dir / "alpha.json").write_text(text)
    state.save(guarded())
    with suppress(NmkError):
        put_right("home", run)
    lines = [x for x in run.there.splitlines() if "oifname {" in x and "saddr" not in x]
    opened = {name for line in lines for name in line.split('"')[1::2]}
    assert opened == {"lo", "nmk-none", *([ours] if ours else [])}
    assert salvage("alpha", run).interface == (ours or named)


DAMAGES: dict[str, Callable[[bytes], bytes]] = {
    "cut": lambda raw: raw[:-50],
    "cut to what is short": lambda raw: raw[: raw.index(b'"seq"')],
    "newer": lambda raw: raw.replace(b'"version":1', b'"version":2'),
    "without its beginning": lambda raw: bytes(200) + raw[200:],
}


def damage(state_dir: Path, how: str) -> bytes:
    file = state_dir / "home.json"
    damaged = DAMAGES[how](file.read_bytes())
    file.write_bytes(damaged)
    with pytest.raises(StateDamaged):
        state.load("home")
    return damaged


def one_check_in(_: str, run: Runner) -> None:
    shut_networks(run)


@pytest.mark.parametrize("how", DAMAGES)
@pytest.mark.parametrize("place", ["nmk set", "agent.toml", "held", "NMK_KILL_SWITCH"])
@pytest.mark.parametrize("action", [*ACTIONS, one_check_in], ids=lambda a: a.__name__)
def test_a_kill_switch_is_laid_after_a_reboot_though_the_state_cannot_be_read(
    state_dir: Path,
    monkeypatch: pytest.MonkeyPatch,
    action: Callable[[str, Runner], object],
    place: str,
    how: str,
) -> None:
    """Wherever it is noted; of the file nothing is changed."""
    wishes: dict[str, int | str] = {"exit-node": "peer-2", "kill-switch": "on"}
    me = guarded()
    config = state_dir.parent / "config"
    config.mkdir()
    if place == "agent.toml":
        (config / "agent.toml").write_text('exit-node = "peer-2"\nkill-switch = "on"\n')
        me = replace(me, wishes=Wishes())
    if place == "held":  # by a file that cannot be read now either
        (config / "agent.toml").write_text("[")
        me = replace(me, wishes=Wishes(), as_read={"agent.toml": wishes})
    if place == "NMK_KILL_SWITCH":
        monkeypatch.setenv("NMK_KILL_SWITCH", "on")
        me = replace(me, wishes=Wishes(settings={"exit-node": "peer-2"}))
    state.save(me)
    damaged = damage(state_dir, how)
    run = Nft()
    for _ in range(2):
        with suppress(NmkError):
            action("home", run)
    assert is_shut(run.there)
    assert "ip daddr { 10.77.0.0/24 } drop" in run.there
    assert run.changes == 1
    assert (state_dir / "home.json").read_bytes() == damaged


@pytest.mark.parametrize("how", DAMAGES)
@pytest.mark.parametrize("setting", [{"kill-switch": "off"}, {"exit-node": ""}])
def test_a_kill_switch_that_is_not_wanted_is_not_laid(
    state_dir: Path, how: str, setting: dict[str, str]
) -> None:
    state.save(guarded(**setting))
    damage(state_dir, how)
    run = Nft()
    for action in (*ACTIONS, one_check_in):
        with suppress(NmkError):
            action("home", run)
    assert run.there == ""


def test_a_table_that_is_there_stays_as_it_is_when_the_state_is_damaged(state_dir: Path) -> None:
    """With all that lies beside the kill switch."""
    state.save(guarded())
    run = Nft()
    with suppress(NmkError):
        put_right("home", run)
    before = run.there
    assert "guard-input" in before
    damage(state_dir, "cut")
    for action in (*ACTIONS, one_check_in):
        with suppress(NmkError):
            action("home", run)
    assert run.there == before


@pytest.mark.parametrize("how", DAMAGES)
def test_its_owner_opens_it_for_good_though_the_state_cannot_be_read(
    state_dir: Path, how: str
) -> None:
    """A file of a newer nmk stays one, with the wish in it."""
    state.save(guarded())
    damaged = damage(state_dir, how)
    run = Nft()
    shut_networks(run)
    assert is_shut(run.there)
    note("home", {"kill-switch": "off"}, run)
    assert run.there == ""
    for action in (*ACTIONS, one_check_in):
        with suppress(NmkError):
            action("home", run)
    assert run.there == ""
    opened = damaged.replace(b'"kill-switch":"on"', b'"kill-switch":"off"')
    assert (state_dir / "home.json").read_bytes() == opened
    (state_dir.parent / "config").mkdir()
    file = state_dir.parent / "config" / "agent.toml"
    file.write_text('exit-node = "peer-2"\nkill-switch = "on"\n')
    with pytest.raises(BadInput, match=f"{file} sets kill-switch"):
        note("home", {"kill-switch": "off"}, run)


@pytest.mark.parametrize("laid", [True, False])
def test_one_that_is_not_laid_is_told_though_the_state_cannot_be_read(
    state_dir: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    laid: bool,
) -> None:
    state.save(guarded())
    damage(state_dir, "cut")
    run = Nft()
    if laid:
        shut_networks(run)
    shown = status("home", run, 0, reachable=lambda _: False)
    lines = render_status([shown], "table")
    assert shown["kill_switch"]["laid"] == laid
    assert ("\n  try: nmk set -n home kill-switch=off" in lines) == laid
    problem = "the kill switch is not laid: everything leaves openly"
    assert (f"open        {problem}\n  try: nmk checkin -n home" in lines) != laid
    found = {f.reason: f.mend for f in examine(["home"], run, lambda: 0) if f.network}
    assert (found.get(problem) == "nmk checkin -n home") != laid
    cut_off = "the interface is not up, and so the kill switch lets nothing out but to the LAN"
    opens = "nmk set -n home kill-switch=off"
    assert (found.get(cut_off) == opens) == laid
    monkeypatch.setattr("nmk.system.runner.Runner", lambda **_: run)
    tell_cut_off_of("home", quiet=False)
    told = f"home: {cut_off}\n  try: {opens}\n"
    assert capsys.readouterr().err == (
        told if laid else f"home: {problem}\n  try: nmk checkin -n home\n"
    )
    with pytest.raises(StateDamaged) as raised:
        state.load("home")
    assert "--force, which opens its kill switch;" in str(raised.value.hint)


@pytest.mark.usefixtures("state_dir")
def test_one_that_cannot_be_looked_at_is_not_said_to_be_open() -> None:
    """As without NET_ADMIN: what is said is what is known, with what lets nmk look."""

    class Unseen(Nft):
        def read(self, argv: Sequence[str]) -> str:
            raise CommandUnanswered(f"{argv[0]} may not", "give it the capability")

    state.save(guarded())
    shown = status("home", Unseen(), 0, reachable=lambda _: False)
    lines = render_status([shown], "table")
    assert shown["kill_switch"]["laid"] is None
    assert shown["cut_off"] is None
    problem = "the packet filter cannot be looked at: nft may not"
    assert f"\nunseen      {problem}\n  try: give it the capability\n" in f"\n{lines}\n"
    found = [f for f in examine(["home"], Unseen(), lambda: 0) if f.network]
    assert [f.mend for f in found if f.reason == problem] == ["give it the capability"]
    assert not [f for f in found if "openly" in f.reason or "renew" in f.reason]


def test_its_owner_opens_it_on_a_full_disk(
    state_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is refused changes nothing, and says what is possible."""
    state.save(guarded())
    run = Nft()
    with suppress(NmkError):
        put_right("home", run)
    assert is_shut(run.there)

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("nmk.agent.state.write_private", full)
    with pytest.raises(StateUnwritable) as raised:
        note("home", {"kill-switch": "off"}, run)
    assert is_shut(run.there)
    config = state_dir.parent / "config"
    line = f"install -d {config} && printf 'kill-switch = \"off\"\\n' >> {config}/home.toml"
    hint = f"make room, or, where {config} can be written: {line}; nmk checkin -n home"
    assert raised.value.hint == hint
    subprocess.run(["sh", "-c", line], check=True)
    for action in (check_in_network, *ACTIONS):
        with suppress(NmkError):
            action("home", run)
        assert "kill-" not in run.there


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("mtu", "1400"),
        ("keepalive", "0"),
        ("interval", "30"),
        ("listen-port", "5555"),
        ("accept-routes", "off"),
        ("accept-roles", "off"),
        ("exit-node", ""),
        ("kill-switch", "on"),
        ("kill-switch", "off"),
    ],
)
@pytest.mark.usefixtures("state_dir")
def test_a_setting_that_cannot_be_carried_out_is_put_back(name: str, value: str) -> None:
    """But for a kill switch: it is laid, or may be opened, whatever else fails."""
    before = guarded(**{"kill-switch": "off" if value == "on" or name != "kill-switch" else "on"})
    state.save(before)
    with pytest.raises(CommandFailed):  # there is no interface, and none can be made
        note("home", {name: value}, Nft())
    after = state.load("home").wishes
    assert (after == before.wishes) is (name != "kill-switch")
