"""QR codes: a text for a phone's camera, on the terminal or in a file."""

from __future__ import annotations

import io
from pathlib import Path
from typing import TYPE_CHECKING

from nmk.core.parse import quote
from nmk.errors import BadInput

if TYPE_CHECKING:
    from segno import QRCode

ENDINGS = (".png", ".svg")
_WHITE_ON_BLACK, _RESET = "\x1b[38;5;231;48;5;232m", "\x1b[0m"  # colours that no theme changes
_NARROW, _STANDARD = 2, 4  # quiet zones in modules; ISO/IEC 18004 wants 4, decoders read 2
_SCALE = 8  # pixels a module: 2 mm at 96 dpi


def parse_qr_file(text: str) -> Path:
    """Where a QR code is to be written. Raises BadInput for another ending."""
    path = Path(text)
    _kind_of(path)
    if not path.parent.is_dir():
        raise BadInput(f"{quote(path.parent)} is no directory", "name a file in one that exists")
    return path


def render_terminal(text: str) -> str:
    """The text's QR code as lines of half blocks, two modules a character; no newline at the end.

    Light modules are drawn, dark ones left out, in colours of their own: it looks the same on
    every background. A config of 450 bytes fits in 80 columns. Raises BadInput for a text that
    no QR code can hold.
    """
    blocks = io.StringIO()
    _encode(text).terminal(blocks, border=_NARROW, compact=True)
    return "\n".join(f"{_WHITE_ON_BLACK}{line}{_RESET}" for line in blocks.getvalue().splitlines())


def terminal_width(text: str) -> int:
    """The columns that the code takes on a terminal. Raises BadInput as that does."""
    return int(_encode(text).symbol_size(border=_NARROW)[0])


def render_picture(path: Path, text: str) -> bytes:
    """The text's QR code as a file of that name holds it: PNG or SVG.

    Raises BadInput for another ending, and a text that no QR code can hold.
    """
    image = io.BytesIO()
    kind = _kind_of(path)
    _encode(text).save(image, kind=kind, scale=_SCALE, border=_STANDARD, light="white")
    return image.getvalue()


def _kind_of(path: Path) -> str:
    ending = path.suffix.lower()
    if ending not in ENDINGS:
        raise BadInput(f"{quote(path)} cannot be a QR code's file", "end its name in .png or .svg")
    return ending[1:]


def _encode(text: str) -> QRCode:
    import segno

    try:
        # Without a mode, segno 1.6.6 takes some UTF-8 for kanji and encodes another text.
        return segno.make_qr(text, error="l", mode="byte", encoding="utf-8")
    except segno.DataOverflowError:
        size = len(text.encode())  # of the text itself nothing is shown: it may hold a private key
        raise BadInput(
            f"a text of {size} bytes is too long for a QR code", "copy it over as a file"
        ) from None
