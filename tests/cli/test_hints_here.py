"""What a machine's own commands propose: what helps there, with all that was typed."""

from __future__ import annotations

import shlex
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from nmk.agent import ping, salvage, state
from nmk.cli import machine
from nmk.core.invitation import SSH_FAILED, Talk
from nmk.core.routes import Route, Routing
from nmk.errors import MachineUnfit, NmkError, Unreachable
from tests.agent.failing_files import Deaf
from tests.agent.memberships import joined, joining, peer
from tests.cli.inprocess import nmk

LEFT = "nmk doctor, which looks for what is left of one"
PORT = ("Port=2222", "User=x y")
OWN = ("-n", "home", "--range=9.0.0.0/8")
UNSEEN = (
    "nmk invite --accept-new -n home --range=9.0.0.0/8 --ssh-option=Port=2222 "
    "'--ssh-option=User=x y' web"
)
BY_HAND = "ssh -o Port=2222 -o 'User=x y' web"


@pytest.fixture(autouse=True)
def root(state_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nmk.system.facts.os.geteuid", lambda: 0)
    monkeypatch.setenv("NMK_STATE_DIR", str(state_dir))
    monkeypatch.setattr(salvage, "leftovers", lambda _: salvage.Leftovers())


@pytest.mark.parametrize(
    ("command", "hint"),
    [
        ("leave", LEFT),
        ("leave -n home", LEFT),
        ("down", LEFT),
        ("log -n home", LEFT),
        ("up", "nmk join -"),
        ("ping web", "nmk join -"),
    ],
)
def test_who_is_in_no_network_and_wants_out_is_not_told_to_join(command: str, hint: str) -> None:
    done = nmk(*command.split())
    assert (done.code, done.err.splitlines()[-1]) == (1, f"  try: {hint}")


@pytest.mark.parametrize(
    ("command", "hint"),
    [
        ("up -n nrth", "write -n north"),
        ("up -n zzz", "name one that it is in, with -n: north, south"),
        ("ping -n north per-2", "nmk status   (peer-2?); where it has just come: nmk checkin"),
        ("ping -n north zzz", "nmk status; where it has just come: nmk checkin"),
        ("set -n north exit-node=dor", "nmk set -n north exit-node=door"),
    ],
)
def test_the_name_that_was_meant_is_proposed(command: str, hint: str) -> None:
    gateways = [
        {**peer(n), "name": name, "gateway": {"exit": {"nat": "auto", "interface": None}}}
        for n, name in ((3, "attic"), (4, "door"))
    ]
    state.save(replace(joined(peer(2), *gateways), network="north"))
    state.save(replace(joining(), network="south"))
    done = nmk(*command.split())
    assert done.code in {1, 2}
    assert done.err.splitlines()[-1] == f"  try: {hint}"


@pytest.mark.parametrize(
    ("command", "told", "hint"),
    [
        ("server wait --timeout x", "'x' cannot be the timeout", "from 0 to 86400"),
        ("server wait --timeout nan", "'nan' cannot be the timeout", "from 0 to 86400"),
        ("server wait --timeout -1", "'-1' cannot be the timeout", "from 0 to 86400"),
        ("checkin --splay x", "'x' cannot be the splay", "from 0 to 3600"),
        ("ping web -c x", "'x' cannot be the number of pings", "from 1 to 1000"),
        ("invite web --jobs 0", "'0' cannot be the number of machines", "from 1 to 64"),
    ],
)
def test_a_number_that_is_none_comes_with_those_that_can_be(
    command: str, told: str, hint: str
) -> None:
    done = nmk(*command.split())
    assert done.code == 2
    assert f"nmk: {told}" in done.err
    assert done.err.endswith(f"  try: use a number {hint}\n")


def test_who_is_behind_an_ext_client_is_told_with_its_name(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    routing = Routing({}, routes=(Route("192.168.70.0/24", "peer-2", client="shop"),))
    monkeypatch.setattr(ping, "desired", lambda *_: SimpleNamespace(routing=routing))
    state.save(joined(peer(2)))
    done = nmk("ping", "192.168.70.20")
    assert "it is in 192.168.70.0/24, which peer-2 routes to shop\n" in done.err
    assert done.err.endswith("  try: nmk ping -n home shop; ping 192.168.70.20\n")


@pytest.mark.parametrize("state_is", ["damaged", "deleted", "whole"])
def test_what_no_up_would_end_is_not_said_to_last_until_then(
    state_dir: Path, monkeypatch: pytest.MonkeyPatch, state_is: str
) -> None:
    monkeypatch.setattr(machine, "runner", lambda *_: Deaf())
    me = replace(joined(peer(2)), interface="nmk-none")
    state.save(replace(me, phase="deleted") if state_is == "deleted" else me)
    if state_is == "damaged":
        (state_dir / "home.json").write_text("{")
    done = nmk("down")
    end = " until `nmk up`\n" if state_is == "whole" else "\n"
    assert f" is down{end}" in done.err


@pytest.mark.parametrize(
    ("exit_code", "line", "hint"),
    [
        (1, "nmk: no WireGuard", f"see more there: {BY_HAND}"),
        (2, "", BY_HAND),
        (SSH_FAILED, "web: Permission denied (publickey).", BY_HAND.replace("ssh", "ssh-copy-id")),
        (SSH_FAILED, "IDENTIFICATION HAS CHANGED", f"find out why, then: {BY_HAND}"),
        (
            SSH_FAILED,
            "Host key verification failed.",
            f"{BY_HAND}   (compare the key, say yes), then again; to trust it unseen: {UNSEEN}",
        ),
    ],
)
def test_what_failed_over_ssh_is_looked_at_by_the_same_way(
    exit_code: int, line: str, hint: str
) -> None:
    talk = Talk()
    talk.hear(line)
    assert talk.failure("web", exit_code, PORT, OWN)[1] == hint
    assert "-o" in shlex.split(BY_HAND)


def test_a_settings_file_that_cannot_be_read_is_named_with_what_helps(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("NMK_CONFIG_DIR", str(tmp_path))
    state.save(joined(peer(2)))
    (tmp_path / "home.toml").mkdir()
    done = nmk("show")
    assert done.code == 2
    assert done.err.endswith("  try: make it readable, or move it away\n")


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (MachineUnfit("no memory is left"), ["nmk: no memory is left"]),
        (Unreachable("no answer"), ["nmk: home: no answer", "nmk: office: no answer"]),
    ],
)
def test_what_the_machine_lacks_is_told_once_for_all_its_networks(
    monkeypatch: pytest.MonkeyPatch, error: NmkError, told: list[str]
) -> None:
    for network in ("home", "office"):
        state.save(replace(joined(peer(2)), network=network))
    monkeypatch.setattr(
        "nmk.agent.rounds.check_in_all", lambda names, *_, **__: [(n, error) for n in names]
    )
    done = nmk("checkin")
    assert done.code == error.exit_code
    assert [line for line in done.err.splitlines() if line.startswith("nmk: ")] == told
