"""Golden files: what a script may parse, kept whole. `NMK_WRITE_GOLDEN=1` writes them anew."""

from __future__ import annotations

import os
from pathlib import Path

HERE = Path(__file__).parent


def check_golden(name: str, text: str) -> None:
    """The text is what the file of that name holds."""
    path = HERE / name
    if os.environ.get("NMK_WRITE_GOLDEN"):
        path.write_text(text)
    assert text == path.read_text(), (
        f"see the difference to {name}, then: NMK_WRITE_GOLDEN=1 pytest"
    )
