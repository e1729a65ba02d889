"""What the node API serves besides: its health, the install script and the file `nmk`.

Both files are read once, at start, and the script is served with the file's checksum in it: what
is pasted on a new machine pins the script, the script pins the file.
"""

from __future__ import annotations

from collections.abc import Callable
from hashlib import sha256
from pathlib import Path

from nmk.archive import running_file, served_script
from nmk.errors import NotFound

Page = Callable[[], tuple[str, bytes]]


class Downloads:
    """Pages by their paths. `script_sha256` is None where there is no file to install."""

    def __init__(self, file: Path | None = None) -> None:
        file = file or running_file()
        self._program = file.read_bytes() if file else None
        self._script = served_script(sha256(self._program).hexdigest()) if self._program else None
        self.script_sha256 = sha256(self._script).hexdigest() if self._script else None
        self.pages: dict[str, Page] = {
            "/healthz": lambda: ("text/plain", b"ok\n"),
            "/install.sh": lambda: ("text/x-shellscript", self._served(self._script)),
            "/nmk": lambda: ("application/octet-stream", self._served(self._program)),
        }

    def _served(self, content: bytes | None) -> bytes:
        if content is None:
            raise NotFound(
                "this controller runs from its source, not from the one file",
                "build the file with: python3 build_zipapp.py",
            )
        return content
