"""Where the value of an option comes from, where nobody has typed it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import click
from click.core import ParameterSource

from nmk.errors import BadInput

SETTINGS = "nmk.settings"  # what names the file in the context's `meta`


@contextmanager
def naming_source(name: str) -> Iterator[None]:
    """What is wrong with the parameter `name` is said of the variable or file that has it."""
    try:
        yield
    except BadInput as error:
        if where := _source(name):
            raise BadInput(f"{where}: {error.message}", error.hint) from None
        raise


def _source(name: str) -> str | None:
    context = click.get_current_context(silent=True)
    if context is None:
        return None
    source = context.get_parameter_source(name)
    if source is ParameterSource.ENVIRONMENT:
        [option] = [p for p in context.command.params if p.name == name]
        return str(option.envvar)
    if source is ParameterSource.DEFAULT_MAP:
        return str(context.meta.get(SETTINGS))
    return None
