"""The kill switch put into a table that stays."""

from __future__ import annotations

import os
import shutil
import subprocess

import pytest

from nmk.core.kill_chains import chains_of, is_shut, opened, shut, silenced
from nmk.core.nft_text import Own
from nmk.core.routes import RouteWishes
from nmk.core.ruleset import KILL, render_kill_switch
from tests.core.made import made_mesh, made_node, made_view

HEAD = "type filter hook output priority filter; policy accept;"
GOTO = "fib saddr type local goto kill-leaving"


def table(**chains: str) -> str:
    blocks = [
        f"\tchain {name.replace('_', '-')} {{\n\t\t{HEAD}\n\t\t{rule}\n\t}}"
        for name, rule in chains.items()
    ]
    return "table inet t {\n" + "\n".join(blocks) + "\n}\n"


CUT_OFF = RouteWishes(exit_node="n2", kill_switch=True)

needs_nft = pytest.mark.skipif(
    os.geteuid() != 0 or shutil.which("nft") is None, reason="nft's own checks need root and nft"
)
KILLS = {
    "kill_leaving": "drop",
    "kill_postrouting": GOTO,
    "kill_local": "goto kill-leaving",
    "kill_forward": "drop",
}
OLD = {"kill_output": "drop", "kill_forward": "drop"}  # of 0.2.0
WANT = table(**KILLS, premark="new", guard_postrouting="new")


def test_what_would_pass_by_it_becomes_what_is_wanted_or_empty() -> None:
    text = shut("t", table(premark="old", answer="old", guard_output="old"), WANT)
    assert text.startswith("flush chain inet t premark\nflush chain inet t answer\ntable inet t {")
    assert set(chains_of(text)) == {*KILL, "premark"}
    assert "new" in chains_of(text)["premark"]


def test_a_part_of_it_that_is_there_is_laid_anew() -> None:
    there = table(**{**KILLS, "kill_leaving": "accept"}, links="drop")
    assert is_shut(WANT)
    text = shut("t", there, WANT)
    assert text.startswith("".join(f"flush chain inet t {name}\n" for name in KILL) + "table")
    assert is_shut(text)


def test_one_of_an_older_nmk_counts_and_makes_room_for_what_is_wanted() -> None:
    there = table(**OLD, links="drop")
    assert is_shut(there)
    text = shut("t", there, WANT)
    assert text.startswith("flush chain inet t kill-forward\ndelete chain inet t kill-output\n")


def test_a_part_of_it_is_none() -> None:
    for lacks in KILLS:
        assert not is_shut(table(**{name: KILLS[name] for name in KILLS if name != lacks}))
        assert not is_shut(table(**{**KILLS, lacks: "accept"}))
    for lacks in OLD:
        assert not is_shut(table(**{name: OLD[name] for name in OLD if name != lacks}))
    assert not is_shut("table inet t {\n\tchain kill-output {\n\t}\n}\n")


def test_what_is_left_of_a_table_without_it() -> None:
    for alone in (KILLS, OLD):
        assert opened("t", table(**alone)) == "delete table inet t\n"
    lines = opened("t", WANT).splitlines()
    assert lines == [f"{do} chain inet t {name}" for do in ("flush", "delete") for name in KILL]
    assert opened("t", table(**OLD, premark="old")).splitlines() == [
        f"{do} chain inet t {name}"
        for do in ("flush", "delete")
        for name in ("kill-forward", "kill-output")
    ]


@needs_nft
def test_nft_takes_it_all_in_a_table_that_has_another() -> None:
    """Of whichever nmk; twice, as what is there may be ours already."""
    there = table(**OLD, premark="accept", answer="accept").replace(
        f"kill-forward {{\n\t\t{HEAD}", f"kill-forward {{\n\t\t{HEAD.replace('output', 'forward')}"
    )
    kill = render_kill_switch(Own("t", "t"), made_view(made_mesh(made_node(1))), CUT_OFF)
    assert kill
    steps = (there, silenced("t", there), shut("t", there, kill), shut("t", kill, kill))
    done = subprocess.run(
        ["unshare", "--net", "sh", "-ec", "nft -f /dev/fd/0 && nft -s list table inet t"],
        input="".join(steps),
        capture_output=True,
        text=True,
        check=False,
    )
    assert is_shut(done.stdout), done.stderr
    assert set(chains_of(done.stdout)) == {*KILL, "premark", "answer"}
    after = subprocess.run(
        ["unshare", "--net", "sh", "-ec", "nft -f /dev/fd/0 && nft -s list table inet t"],
        input=done.stdout + opened("t", done.stdout),
        capture_output=True,
        text=True,
        check=False,
    )
    assert set(chains_of(after.stdout)) == {"premark", "answer"}, after.stderr


def test_another_networks_table_answers_nobody_outside_any_more() -> None:
    assert silenced("t", "") == silenced("t", table(premark="old", postmark="old")) == ""
    assert silenced("t", table(premark="old", answer="old", postmark="old")) == (
        "flush chain inet t premark\nflush chain inet t answer\n"
        "add rule inet t premark ct mark 0x6e6d6b meta mark set ct mark\n"
    )
