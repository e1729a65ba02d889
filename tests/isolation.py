"""What this machine is used for is not seen by nmk in a test's own process."""

from __future__ import annotations

from pathlib import Path

import pytest

from nmk.agent import elsewhere, others, places
from nmk.system import starters

_PATCH = pytest.MonkeyPatch()  # which is never undone


def see_nothing_here(directory: Path) -> None:
    """Have nmk look below the directory for all that it looks at whatever its owner has chosen."""
    _PATCH.setattr(places, "_RUNTIME", directory / "run")
    for module in (places, elsewhere):
        _PATCH.setattr(module, "DEFAULT_STATE", directory / "nowhere")
    _PATCH.setattr(elsewhere, "agent_environments", lambda: iter(()))
    _PATCH.setattr(others, "marked", lambda *_: set())
    _PATCH.setattr(starters, "_CRONTABS", ())
    _PATCH.setattr(starters, "_SERVICES", ())
