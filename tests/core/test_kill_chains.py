"""The kill switch put into a table that stays."""

from __future__ import annotations

from nmk.core.kill_chains import chains_of, is_shut, opened, shut

HEAD = "type filter hook output priority filter; policy accept;"


def table(**chains: str) -> str:
    blocks = [
        f"\tchain {name.replace('_', '-')} {{\n\t\t{HEAD}\n\t\t{rule}\n\t}}"
        for name, rule in chains.items()
    ]
    return "table inet t {\n" + "\n".join(blocks) + "\n}\n"


WANT = table(kill_output="drop", kill_forward="drop", premark="new", guard_output="new")


def test_what_would_pass_by_it_becomes_what_is_wanted_or_empty() -> None:
    text = shut("t", table(premark="old", answer="old", guard_output="old"), WANT)
    assert text.startswith("flush chain inet t premark\nflush chain inet t answer\ntable inet t {")
    assert set(chains_of(text)) == {"kill-output", "kill-forward", "premark"}
    assert "new" in chains_of(text)["premark"]


def test_a_part_of_it_that_is_there_is_laid_anew() -> None:
    there = table(kill_output="accept", links="drop")
    assert not is_shut(there)
    assert is_shut(WANT)
    text = shut("t", there, WANT)
    assert text.startswith("flush chain inet t kill-output\ntable inet t {")
    assert is_shut(text)


def test_what_is_left_of_a_table_without_it() -> None:
    assert opened("t", table(kill_output="drop", kill_forward="drop")) == "delete table inet t\n"
    assert opened("t", WANT) == (
        "delete chain inet t kill-output\ndelete chain inet t kill-forward\n"
    )
