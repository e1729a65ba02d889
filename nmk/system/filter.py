"""Tables of nft that are nmk's own: put in place whole, looked at, removed (nft(8))."""

from __future__ import annotations

from contextlib import suppress

from nmk.core.nesting import read_json
from nmk.core.parse import quote
from nmk.core.ruleset import is_ours, table_name
from nmk.core.tunnel import Command
from nmk.errors import CommandFailed, CommandUnanswered, ToolMissing
from nmk.system.runner import Runner
from nmk.tools import has_tool, install_hint

DELETE = "nft delete table inet {}"


def listing(run: Runner, table: str) -> str:
    """What nft says of the table, without counters; "" where there is none, or no nft."""
    if not has_tool("nft"):
        return ""
    try:
        return run.read(["nft", "--stateless", "list", "table", "inet", table])
    except CommandFailed:
        return ""


def why_unseen(run: Runner, table: str) -> CommandUnanswered | None:
    """Why nobody can tell whether the table is there; None where nft tells, or is not there."""
    if has_tool("nft"):
        try:
            run.read(["nft", "--stateless", "list", "table", "inet", table])
        except CommandUnanswered as error:
            message = f"the packet filter cannot be looked at: {error.message}"
            return CommandUnanswered(message, error.hint)
        except CommandFailed:
            pass
    return None


def names(run: Runner) -> set[str]:
    """The tables of the family inet; none where there is no nft."""
    if not has_tool("nft"):
        return set()
    with suppress(CommandFailed):
        lines = run.read(["nft", "list", "tables", "inet"]).splitlines()
        return {fields[2] for line in lines if len(fields := line.split()) == 3}
    return set()


def counted(run: Runner, table: str, chain: str) -> int:
    """How many packets met the counters of a chain; 0 where there is none, or no nft."""
    if not has_tool("nft"):
        return 0
    with suppress(CommandFailed, ValueError, KeyError, TypeError):
        said = run.read(["nft", "--json", "list", "chain", "inet", table, chain])
        rules = [o["rule"]["expr"] for o in read_json(said)["nftables"] if "rule" in o]
        return sum(int(e["counter"]["packets"]) for expr in rules for e in expr if "counter" in e)
    return 0


def beside(run: Runner, table: str) -> dict[str, str]:
    """The listings of nmk's other tables, by their names: of any state, or of none."""
    called = (name for name in names(run) if name.startswith(table_name("")) and name != table)
    found = {name: listing(run, name) for name in called}
    return {name: text for name, text in found.items() if is_ours(text)}


def no_nft() -> ToolMissing:
    """What is to be said where a table is wanted and there is no nft."""
    return ToolMissing(
        "nft is not installed: without it this machine can be no gateway and use no exit node",
        install_hint("nft"),
    )


def stays(table: str) -> ToolMissing:
    """What is to be said of a table that is to go where there is no nft."""
    return ToolMissing(
        f"nft is not installed: the packet filter {quote(f'table inet {table}')} stays as it is",
        f"{install_hint('nft')}; then the same again (or, by hand: {DELETE.format(table)})",
    )


def replace(run: Runner, table: str, ruleset: str | None) -> None:
    """Put the ruleset in the table's place in one step; None removes it. Raises ToolMissing."""
    if not has_tool("nft"):
        raise no_nft()
    # A table that is not there cannot be deleted, so it is made first.
    gone = f"add table inet {table}\ndelete table inet {table}\n"
    amend(run, gone + (ruleset or ""))


def amend(run: Runner, text: str) -> None:
    """Do what a text for nft says, all of it or nothing. Raises CommandFailed, ToolMissing."""
    run.change(Command(("nft", "-f", "-"), text))
