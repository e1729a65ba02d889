#!/usr/bin/env python3
"""Makes `dist/nmk`: one executable file with nmk and all that it needs.

The file is for the Python version, CPU and libc of the Python that runs this script. The same
source gives the same bytes, whoever builds it and wherever. Needs nothing but Python with pip or
with the venv module (Debian: python3-venv). How the file starts: nmk/bootstrap.py.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib.util
import io
import os
import subprocess
import sys
import tempfile
import venv
import zipfile
from collections.abc import Mapping
from fnmatch import fnmatch
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path

ROOT = Path(__file__).resolve().parent
LOCK = ROOT / "scripts" / "requirements.txt"

DATA_FILES = ("py.typed",)
"""What of nmk/ goes along besides its modules."""

UNNEEDED = (
    "bin/*",  # command line tools, with their manual pages
    "share/*",
    "cffi/*",  # compiles C code; what is compiled uses only _cffi_backend
    "pycparser/*",
    "peewee-stubs/*",
    "pwiz.py",
    "segno/cli.py",
    "segno/helpers.py",
    "*/tests/*",
    "*.pyi",
    "*.[ch]",
)
METADATA_KEPT = ("METADATA", "LICENSE*", "licenses/*")
"""Of *.dist-info: what programs look up and what the licences ask for; the rest is pip's."""

START = b'#!/bin/sh\nexec python3 -I "$0" "$@"\n'
"""What the file begins with. Python skips it, the shell reads no further; env(1) would do where it
knows -S, which BusyBox does not. -I: no module of the owner's PYTHONPATH is run as root."""

Files = Mapping[str, bytes]
"""Contents by path."""


def main() -> None:
    """Build, and say what was built."""
    parser = argparse.ArgumentParser(description="Make the one file `nmk`.")
    parser.add_argument("--output", type=Path, default=ROOT / "dist" / "nmk", metavar="FILE")
    output: Path = parser.parse_args().output
    carried = {**collect_dependencies(), **collect_source()}
    write_executable(output, render_zipapp(carried))
    print(f"{output}: {output.stat().st_size:,} bytes")  # noqa: T201


def collect_source() -> dict[str, bytes]:
    """The package nmk, with what it hands out: its licence and the script that installs it."""
    package = ROOT / "nmk"
    paths = [path for pattern in ("*.py", *DATA_FILES) for path in package.rglob(pattern)]
    source = {path.relative_to(ROOT).as_posix(): path.read_bytes() for path in paths}
    return source | {
        f"nmk/{name}": (ROOT / name).read_bytes() for name in ("LICENSE", "install.sh")
    }


def collect_dependencies() -> dict[str, bytes]:
    """The locked packages as pip installs them for this Python, without what nmk never reads."""
    with tempfile.TemporaryDirectory() as scratch:
        target = Path(scratch, "packages")
        quiet = ["--quiet", "--disable-pip-version-check", "--root-user-action", "ignore"]
        locked = ["--require-hashes", "--only-binary", ":all:", "--requirement", str(LOCK)]
        plain = ["--no-deps", "--no-compile", "--target", str(target)]
        pip = [find_pip(Path(scratch, "venv")), "-m", "pip", "install"]
        if subprocess.run([*pip, *quiet, *locked, *plain], check=False).returncode:
            sys.exit(f"build_zipapp.py: pip could not install what {LOCK} lists")
        names = [
            path.relative_to(target).as_posix() for path in target.rglob("*") if path.is_file()
        ]
        return {name: (target / name).read_bytes() for name in names if is_needed(name)}


def find_pip(scratch: Path) -> str:
    """A Python of this version that has pip: this one, or one in a new virtual environment."""
    if importlib.util.find_spec("pip"):
        return sys.executable
    if not importlib.util.find_spec("ensurepip"):
        sys.exit("build_zipapp.py: this Python has no pip\n  try: apt-get install python3-venv")
    venv.create(scratch, with_pip=True)
    return str(scratch / "bin" / "python")


def is_needed(name: str) -> bool:
    """Whether a file of a dependency is worth its place."""
    package, _, rest = name.partition("/")
    if package.endswith(".dist-info"):
        return any(fnmatch(rest, pattern) for pattern in METADATA_KEPT)
    return not any(fnmatch(name, pattern) for pattern in UNNEEDED)


def render_zipapp(carried: Files, abi: str = EXTENSION_SUFFIXES[0]) -> bytes:
    """The executable file: a start-up script, what unpacks, and, as one entry, the rest."""
    payload = render_zip(carried)
    build_id = hashlib.sha256(payload).hexdigest()[:16]
    script = (ROOT / "nmk" / "bootstrap.py").read_text(encoding="utf-8")
    script = script.replace("@BUILD_ID@", build_id).replace("@ABI@", abi)
    unpacking = (ROOT / "nmk" / "unpacking.py").read_bytes()
    entries = {
        "__main__.py": script.encode(),
        "unpacking.py": unpacking,
        f"{build_id}.zip": payload,
    }
    return render_zip(entries, prefix=START)


def render_zip(files: Files, prefix: bytes = b"") -> bytes:
    """A zip archive that depends on its files' names and contents alone.

    An archive among the files is compressed, as a whole. The others are not: in an inner archive
    that would waste space, in the outer one time at every start.
    """
    archive = io.BytesIO(prefix)
    archive.seek(len(prefix))
    with zipfile.ZipFile(archive, "w") as output:
        for name in sorted(files):
            entry = zipfile.ZipInfo(name, date_time=(1980, 1, 1, 0, 0, 0))
            entry.create_system, entry.external_attr = 3, 0o100644 << 16  # Unix, a plain file
            method = zipfile.ZIP_LZMA if name.endswith(".zip") else zipfile.ZIP_STORED
            output.writestr(entry, files[name], method)
    return archive.getvalue()


def write_executable(path: Path, content: bytes) -> None:
    """Put it there at once: whoever starts the old file meanwhile gets all of the old file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}.", delete=False) as new:
        new.write(content)
        os.fchmod(new.fileno(), 0o755)
    Path(new.name).replace(path)


if __name__ == "__main__":
    main()
