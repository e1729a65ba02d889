"""Where a new config of an ext client goes: to files, else to standard output."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from shutil import get_terminal_size

from nmk.cli.api import Json
from nmk.cli.output import is_shown, put, put_json, put_text, say, takes_unicode
from nmk.cli.qr import parse_qr_file, render_picture, render_terminal, terminal_width
from nmk.core.parse import parse_key, quote
from nmk.errors import BadInput, NmkError, OutputFailed
from nmk.files import Keep, draft

_PRIVATE = 0o600


class HandedOver(OutputFailed):
    """A config went to standard output, as its file could not be written."""

    default_hint = "keep what was printed: it has the only copy of the private key"


@dataclass(frozen=True, slots=True)
class Handing:
    """Where it goes, and the device's own key where it has one."""

    qr_file: Path | None
    config_file: Path | None
    public_key: str | None

    @property
    def to_files(self) -> bool:
        """Whether it goes to files."""
        return bool(self.qr_file or self.config_file)


@dataclass(frozen=True, slots=True)
class Drafts:
    """The files that were asked for, open."""

    config: Keep | None
    picture: Keep | None


def parse_handing(
    output: str, qr_file: str | None, config_file: str | None, public_key: str | None
) -> Handing:
    """The files, checked before anything is made. Raises BadInput."""
    key = None if public_key is None else parse_key(public_key)
    qr_path = None if qr_file is None else parse_qr_file(qr_file)
    config_path = None if config_file is None else _parse_config_file(config_file)
    if qr_path and key:
        raise BadInput("a QR code without the private key is of no use", "leave --qr-file out")
    for path in filter(None, (qr_path, config_path)):
        _check_new(path)
    if qr_path and config_path and _is_same(qr_path, config_path):
        raise BadInput(f"{quote(qr_path)} is named twice", "give the config a file of its own")
    if output == "name" and not (qr_path or config_path or key):
        raise BadInput("-o name would lose the private key", "add --config-file FILE")
    return Handing(qr_path, config_path, key)


@contextmanager
def drafted(handing: Handing) -> Iterator[Drafts]:
    """The files open for as long as somebody is asked. Raises BadInput where one cannot be."""
    with ExitStack() as stack:
        config, picture = (
            None if path is None else _draft(stack, path)
            for path in (handing.config_file, handing.qr_file)
        )
        yield Drafts(config, picture)


def check_fits(handing: Handing, config: str) -> None:
    """Raises BadInput where the QR code that was asked for could not hold such a config."""
    if handing.qr_file:
        render_picture(handing.qr_file, config)


def hand_out(made: Json, config: str, handing: Handing, drafts: Drafts, output: str) -> None:
    """The config to where it was asked for.

    To standard output instead where its file cannot be written, which then raises HandedOver.
    Raises OutputFailed where it is not handed over at all.
    """
    try:
        picture = handing.qr_file and render_picture(handing.qr_file, config)
        if drafts.config:
            drafts.config(config.encode())
        if drafts.picture and picture:
            drafts.picture(picture)
    except (OSError, NmkError) as error:
        reason = error.message if isinstance(error, NmkError) else str(error)
        _print(made, config, replace(handing, qr_file=None, config_file=None), output, "table")
        raise HandedOver(
            f"the ext client {made['name']} is there, and its config is on standard output, as "
            f"its file could not be written: {reason}"
        ) from None
    _print(made, config, handing, output, "name")


@contextmanager
def made_good(undo: Callable[[], str], hint: str) -> Iterator[None]:
    """A block that hands over a secret; where it cannot, what was made for it is undone.

    `undo` says what became of it. Raises OutputFailed with that and the hint.
    """
    try:
        yield
    except HandedOver:
        raise
    except OutputFailed as error:
        try:
            done = undo()
        except NmkError as trouble:
            done = f"what was made is there still: {trouble.message}"
        raise OutputFailed(f"{error.message}; {done}", hint) from None


def _print(made: Json, config: str, handing: Handing, output: str, names: str) -> None:
    """What goes to standard output; `names`: the form that `-o name` has."""
    form = names if output == "name" else output
    if form == "json":
        put_json(made if handing.to_files else {**made, "config": config})
    elif form == "name":
        put(made["name"])
    elif not handing.to_files:
        code = _render_code(config, made) if is_shown() and not handing.public_key else ""
        put_text(config + code)


def _render_code(config: str, made: Json) -> str:
    """The QR code below a config; "" where the terminal cannot show it, which is said."""
    try:
        columns, lines = get_terminal_size().columns, render_terminal(config)
        width = terminal_width(config)
        reason = f"it takes {width} columns, and this terminal has {columns}"
        if not takes_unicode():
            reason = "this terminal has no UTF-8"
        elif width <= columns:
            return f"\n{lines}\n"
    except BadInput as error:
        reason = error.message
    again = f"nmk extclient rotate -n {made['network']} {made['name']} --qr-file {made['name']}.png"
    say(f"no QR code: {reason}", f"  a new key and its code in a file: {again}")
    return ""


def _parse_config_file(text: str) -> Path:
    if text in {"", "-"}:
        raise BadInput(f"{quote(text)} is no file's name", "leave it out and the config is printed")
    return Path(text)


def _check_new(path: Path) -> None:
    """Raises BadInput where the file cannot be made, or is there."""
    try:
        if path.exists():
            raise BadInput(f"{quote(path)} exists", "name a file that is not there yet")
        if not path.absolute().parent.is_dir():
            raise BadInput(f"{quote(path)} is in no directory that exists", "mkdir -p it first")
    except OSError as error:
        raise BadInput(f"{quote(path)} cannot be a file: {error.strerror}") from None


def _is_same(one: Path, other: Path) -> bool:
    """Whether two files that are to be would be one, by whatever ways."""
    return one.name == other.name and one.parent.samefile(other.parent)


def _draft(stack: ExitStack, path: Path) -> Keep:
    try:
        return stack.enter_context(draft(path, _PRIVATE))
    except OSError as error:
        raise BadInput(
            f"{quote(path)} cannot be written: {error.strerror}",
            "name a file in a directory that you can write to",
        ) from None
