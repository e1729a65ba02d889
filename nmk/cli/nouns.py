"""What the commands on stored things share: aliases, settings as arguments, asking back."""

from __future__ import annotations

import sys
from typing import Any

import click

from nmk.core.parse import quote
from nmk.core.text import plain
from nmk.errors import BadInput

_ALIASES = {"ls": ("list",), "rm": ("delete", "remove"), "revoke": ("delete",)}


class Noun(click.Group):
    """`nmk NOUN VERB`; `ls`, `rm` and `revoke` work too and are not shown."""

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        """The verb's command."""
        names = _ALIASES.get(name, (name,))
        found = (super(Noun, self).get_command(ctx, n) for n in names)
        return next(filter(None, found), None)


def parse_pairs(pairs: tuple[str, ...]) -> dict[str, str]:
    """`KEY=VALUE` arguments. Raises BadInput that quotes the one that is none."""
    found = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not equals or not key:
            raise BadInput(f"{quote(pair)} is no setting", "write it like mtu=1380")
        found[key] = value
    return found


def confirm(question: str, *, yes: bool) -> None:
    """Ask before what cannot be undone. Without a terminal `--yes` is needed."""
    if yes:
        return
    if not sys.stdin.isatty():
        raise BadInput(f"{question} Nobody is there to answer", "add --yes")
    click.confirm(plain(question), abort=True, err=True)


def dry_run_option(command: Any) -> Any:  # noqa: ANN401  # decorator
    """`--dry-run`, as the parameter `dry_run`."""
    return click.option("--dry-run", is_flag=True, help="Check and show, change nothing.")(command)


def yes_option(command: Any) -> Any:  # noqa: ANN401  # decorator
    """`--yes`, as the parameter `yes`."""
    return click.option("--yes", is_flag=True, help="Do not ask.")(command)
