"""The first start of the file `nmk`, stopped anywhere while it unpacks itself: the next one works.

The sweep starts a small file with the real start-up script; the real file is stopped at a few
points, as it has thousands.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

import build_zipapp
from tests.lab.polling import patient
from tests.mesh import NMK
from tests.reliability.killing import EFFECTS, Point, parse_trace, some_of

Stopped = Callable[[int], None]
NOBODY = 65534
PYTHON = "/usr/bin/python3"  # which the real file is made for
PROGRAM = b"def main():\n    print('it runs')\n"


@dataclass(frozen=True, slots=True)
class Start:
    """A start of a file by a user who is not root and has a cache of their own."""

    home: Path
    file: Path

    @property
    def cache(self) -> Path:
        return self.home / "nmk"

    def run(self, *tracer: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*tracer, PYTHON, str(self.file), "version"],
            env={"PATH": os.environ["PATH"], "XDG_CACHE_HOME": str(self.home)},
            user=NOBODY,
            group=NOBODY,
            extra_groups=[],
            capture_output=True,
            text=True,
            timeout=patient(60),
            check=False,
        )

    def points(self) -> list[Point]:
        trace = self.home / "trace"
        assert self.run(*strace("-o", str(trace))).returncode == 0
        return list(parse_trace(trace.read_text()))

    def forget(self) -> None:
        shutil.rmtree(self.cache, ignore_errors=True)


def python_abi() -> str:
    asked = [PYTHON, "-c", "import _imp; print(_imp.extension_suffixes()[0])"]
    return subprocess.run(asked, capture_output=True, text=True, check=True).stdout.strip()


def strace(*options: str) -> list[str]:
    return ["strace", "-qq", "-e", f"trace={','.join(EFFECTS)}", "-e", "signal=none", *options]


@pytest.fixture
def home() -> Iterator[Path]:
    """A directory of the user's; pytest's own are closed to other users."""
    with TemporaryDirectory() as path:
        os.chown(path, NOBODY, NOBODY)
        yield Path(path)


@pytest.fixture
def small(home: Path) -> Path:
    """A file that carries little."""
    carried = {
        "nmk/__init__.py": b"",
        "nmk/cli/__init__.py": b"",
        "nmk/cli/main.py": PROGRAM,
        "nmk/more.py": b"MORE = 1\n" * 5000,
    }
    file, abi = home / "small", python_abi()
    build_zipapp.write_executable(file, build_zipapp.render_zipapp(carried, abi))
    return file


def stop_everywhere(start: Start, points: Sequence[Point]) -> None:
    for point in points:
        start.forget()
        stopped = start.run(
            *strace("-o", "/dev/null", "-e", f"inject={point.name}:signal=KILL:when={point.number}")
        )
        assert stopped.returncode == -signal.SIGKILL, point
        works = start.run()
        assert (works.returncode, works.stderr) == (0, ""), point
        left = [path.name for path in start.cache.iterdir()]
        assert len(left) == 1, (point, left)


def test_small_file(home: Path, small: Path, full: bool, stopped: Stopped) -> None:
    start = Start(home, small)
    points = start.points()
    chosen = points if full else some_of(points)
    stop_everywhere(start, chosen)
    stopped(len(chosen))


def test_real_file(home: Path, full: bool, stopped: Stopped) -> None:
    start = Start(home, Path(shutil.copy(NMK, home / "real")))
    points = start.points()
    chosen = some_of(points, 40 if full else 2)
    stop_everywhere(start, chosen)
    stopped(len(chosen))
