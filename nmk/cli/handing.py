"""Where a new config of an ext client goes: to files, else to standard output."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from nmk.cli.api import Json
from nmk.cli.output import put, put_json, put_text
from nmk.cli.qr import parse_qr_file, render_picture, render_terminal
from nmk.core.parse import parse_key, quote
from nmk.errors import BadInput, NmkError
from nmk.files import Keep, draft

_PRIVATE = 0o600


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


def hand_out(made: Json, config: str, handing: Handing, drafts: Drafts, output: str) -> None:
    """The config to where it was asked for. Raises BadInput with the way to another one."""
    try:
        picture = handing.qr_file and render_picture(handing.qr_file, config)
        if drafts.config:
            drafts.config(config.encode())
        if drafts.picture and picture:
            drafts.picture(picture)
    except (OSError, NmkError) as error:
        reason = error.message if isinstance(error, NmkError) else str(error)
        raise BadInput(
            f"the ext client is there, and its config could not be written: {reason}",
            f"nmk extclient rotate -n {made['network']} {made['name']}",
        ) from None
    if output == "json":
        shown = made if handing.to_files else {**made, "config": config}
        put_json(shown)
    elif output == "name":
        put(made["name"])
    elif not handing.to_files:
        put_text(config)
        if sys.stdout.isatty() and os.environ.get("TERM") != "dumb" and not handing.public_key:
            put_text(f"\n{render_terminal(config)}\n")


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
