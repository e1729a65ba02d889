"""`nmk help`, and what was meant by a command that there is not."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from difflib import get_close_matches

import click

from nmk.cli.output import put_text
from nmk.core.parse import quote

_CLOSE = 0.6  # difflib's ratio


class NoSuchCommand(click.UsageError):
    """A word that is no command, with the one that was meant, as far as can be told."""

    def __init__(self, ctx: click.Context, word: str, meant: str | None) -> None:
        super().__init__(f"{ctx.command_path} has no command {quote(word)}", ctx)
        self.hint = meant or f"{ctx.command_path} --help"


@click.command("help", epilog="Example: nmk help node set")
@click.argument("words", metavar="[COMMAND...]", nargs=-1)
@click.pass_context
def help_(ctx: click.Context, words: tuple[str, ...]) -> None:
    """Show the help of a command, as `nmk COMMAND --help` does."""
    parent = ctx.parent
    assert parent  # noqa: S101  # it is a command of a group
    command: click.Command = parent.command
    for number, word in enumerate(words):
        if not isinstance(command, click.Group):
            break  # such as an argument of the command
        _, found, _ = command.resolve_command(parent, [word, *words[number + 1 :]])
        assert found  # noqa: S101  # else it has raised
        command, parent = found, click.Context(found, info_name=found.name, parent=parent)
    put_text(f"{command.get_help(parent)}\n")


def find_meant(
    ctx: click.Context, group: click.Group, args: Sequence[str], aliases: Iterable[str]
) -> str | None:
    """The command that was meant: one of nearly that name, or of another place or order."""
    word, *rest = args
    shown = group.list_commands(ctx)
    names = [*shown, *aliases]
    inner = {n: c for n in names if isinstance(c := group.get_command(ctx, n), click.Group)}
    with_word = [n for n in shown if n in inner and inner[n].get_command(ctx, word)]
    if rest and rest[0] in inner and inner[rest[0]].get_command(ctx, word):
        return f"{ctx.command_path} {rest[0]} {word}"
    if with_word:
        return "; ".join(f"{ctx.command_path} {name} {word}" for name in with_word)
    close = get_close_matches(word.lower(), names, n=1, cutoff=_CLOSE)
    if not close:
        return None
    found = inner.get(close[0])
    verb = f" {rest[0]}" if rest and found and found.get_command(ctx, rest[0]) else ""
    return f"{ctx.command_path} {close[0]}{verb}"
