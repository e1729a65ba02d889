"""What the commands on stored things share: aliases, settings as arguments, asking back."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import click

from nmk.cli.output import say
from nmk.core.parse import parse_int, quote
from nmk.core.text import plain
from nmk.errors import EXIT_FAILED, BadInput

_ALIASES = {"ls": ("list",), "rm": ("delete", "remove"), "revoke": ("delete",)}


class Commands(click.Group):
    """A group that tells what was meant by a command that it has not."""

    aliases: ClassVar[Mapping[str, object]] = {}

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """The command of the first word. Raises NoSuchCommand."""
        if self.get_command(ctx, args[0]) is None and not args[0].startswith("-"):
            from nmk.cli.help import NoSuchCommand, find_meant

            raise NoSuchCommand(ctx, args[0], find_meant(ctx, self, args, self.aliases))
        return super().resolve_command(ctx, args)


class Number(click.ParamType[int]):
    """A whole number within bounds, both included; of another one it is said what can be."""

    name = "number"

    def __init__(self, low: int, high: int, what: str) -> None:
        self._bounds = low, high, what

    def convert(
        self, value: str | int, _param: click.Parameter | None, _ctx: click.Context | None
    ) -> int:
        """The number. Raises BadInput."""
        return parse_int(value, *self._bounds)


class Setter(click.Command):
    """A command that takes settings; its help has them as it has the options."""

    def __init__(self, *args: Any, known: Mapping[str, str], **more: Any) -> None:  # noqa: ANN401
        super().__init__(*args, **more)
        self._known = known

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The settings with what they are, before the options."""
        with formatter.section("Settings"):
            formatter.write_dl(list(self._known.items()))
        super().format_options(ctx, formatter)


class Noun(Commands):
    """`nmk NOUN VERB`; `ls`, `rm` and `revoke` work too and are not shown."""

    aliases = _ALIASES

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        """The verb's command."""
        names = _ALIASES.get(name, (name,))
        found = (super(Noun, self).get_command(ctx, n) for n in names)
        return next(filter(None, found), None)


def parse_pairs(pairs: Sequence[str], examples: Mapping[str, str]) -> dict[str, str]:
    """`KEY=VALUE` arguments. Raises BadInput that quotes the one that is none.

    `examples`: a value of each setting that there is, for what is to be typed instead.
    """
    found: dict[str, str] = {}
    for number, pair in enumerate(pairs):
        key, equals, value = pair.partition("=")
        if not equals or not key:
            raise _no_pair(pair, pairs[:number], pairs[number + 1 :], examples)
        if key in found:
            raise BadInput(f"{quote(key)} is given twice", f"write one of them: {key}={value}")
        found[key] = value
    return found


def _no_pair(
    word: str, before: Sequence[str], after: Sequence[str], examples: Mapping[str, str]
) -> BadInput:
    """What to type where a word is no pair: most often a space has got into one."""
    if word in examples:
        meant = next((text.lstrip("=") for text in after if text != "="), "")
        is_value = meant and "=" not in meant and meant not in examples
        value = meant if is_value else examples[word]
        return BadInput(f"{quote(word)} has no value", f"write {word}={value}")
    hint = "write it like " + " or ".join(f"{k}={v}" for k, v in list(examples.items())[:2])
    if before and before[-1].endswith("="):
        hint = f"write {before[-1]}{word}, without a space"
    elif before and "," in examples.get(before[-1].partition("=")[0], ""):
        hint = f"write {before[-1]},{word}, with commas between"
    return BadInput(f"{quote(word)} is no setting", hint)


def say_unchanged(seen: Mapping[str, Any], changed: Mapping[str, Any], *, dry_run: bool) -> None:
    """Say it where what was asked for is so already."""
    if not dry_run and changed["revision"] == seen["revision"]:
        say("nothing to change: it is so already")


def confirm(question: str, *, yes: bool) -> None:
    """Ask before what cannot be undone; a no ends the command with exit code 1.

    Without a terminal `--yes` is needed.
    """
    if yes:
        return
    if sys.stdin is None or not sys.stdin.isatty():
        raise BadInput(f"{question} Standard input is not a terminal", "add --yes")
    if not click.confirm(plain(question), err=True):
        say("nothing was changed")
        raise click.exceptions.Exit(EXIT_FAILED)


def dry_run_option(command: Any) -> Any:  # noqa: ANN401  # decorator
    """`--dry-run`, as the parameter `dry_run`."""
    return click.option("--dry-run", is_flag=True, help="Check and show, change nothing.")(command)


def yes_option(command: Any) -> Any:  # noqa: ANN401  # decorator
    """`--yes`, as the parameter `yes`."""
    return click.option("--yes", is_flag=True, help="Do not ask.")(command)
