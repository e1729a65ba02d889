"""Learning at once that the machine's addresses or routes have changed, from `ip monitor`."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from contextlib import suppress

from nmk.system.runner import find_tool

_CHUNK = 64 * 1024


class Monitor:
    """A running `ip monitor`. Its file descriptor is readable when something has changed.

    `ours` tells whether an interface is one of nmk's own: its changes do not count. Raises
    ToolMissing.
    """

    def __init__(self, ours: Callable[[str], bool]) -> None:
        self._ours = ours
        self._rest = b""
        self._process = subprocess.Popen(
            [find_tool("ip"), "-oneline", "monitor", "address", "route"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        assert self._process.stdout is not None  # noqa: S101  # it is a pipe
        self._output = self._process.stdout
        os.set_blocking(self._output.fileno(), False)

    def fileno(self) -> int:
        """For select; -1 when the command has ended."""
        return -1 if self._output.closed else self._output.fileno()

    def changed(self) -> bool:
        """Whether something that is not ours has changed since the last call."""
        try:
            data = os.read(self._output.fileno(), _CHUNK)
        except BlockingIOError:
            return False
        if not data:
            self.close()
            return False
        *lines, self._rest = (self._rest + data).split(b"\n")
        return any(self._counts(line.decode(errors="replace")) for line in lines)

    def close(self) -> None:
        """End the command."""
        self._output.close()
        with suppress(ProcessLookupError):
            self._process.terminate()
        self._process.wait()

    def _counts(self, line: str) -> bool:
        """Whether a line such as `2: eth0    inet 192.0.2.7/24 ...` is about others' interfaces."""
        words = line.removeprefix("Deleted ").split()
        if not words or "cache" in words or "ff00::/8" in words:
            return False
        if words[0].rstrip(":").isdecimal() and len(words) > 1:
            interface = words[1]
        else:
            interface = words[words.index("dev") + 1] if "dev" in words[:-1] else ""
        return not self._ours(interface.partition("@")[0])
