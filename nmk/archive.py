"""The file `nmk` itself, and the script that installs it: what the controller hands to machines."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path

_PLACEHOLDER = b"@NMK_SHA256@"


def running_file() -> Path | None:
    """The zipapp that this process was started from; None in a source tree."""
    started: str | None = getattr(sys.modules["__main__"], "NMK_FILE", None)
    return Path(started) if started else None


def running_build() -> str | None:
    """Which build of it this process is; None in a source tree."""
    build: str | None = getattr(sys.modules["__main__"], "BUILD_ID", None)
    return build


def start_again(error: BaseException) -> None:
    """Where it says that what the zipapp unpacked is damaged: unpack, and execute all of it anew.

    Returns where the error is another one, and in a source tree. Raises what has a message, a hint
    and an exit code as its arguments, where that cannot help.
    """
    if act := getattr(sys.modules["__main__"], "start_again", None):
        act(error)


def own_command(path: str) -> str:
    """What starts this very nmk: its name where `path` leads to it, else where it is."""
    file = running_file()
    if file is None:
        return "nmk"
    from shutil import which  # with all that it can unpack: too much for each start

    found = which("nmk", path=path)
    is_found = found is not None and file.exists() and file.samefile(found)
    return "nmk" if is_found else shlex.quote(str(file))


def install_script() -> bytes:
    """`install.sh` as it is in the repository, with no checksum filled in."""
    here = Path(__file__).parent
    packaged = here / "install.sh"
    return (packaged if packaged.exists() else here.parent / "install.sh").read_bytes()


def served_script(nmk_sha256: str) -> bytes:
    """`install.sh` as a controller serves it: it installs the `nmk` with that checksum only."""
    return install_script().replace(_PLACEHOLDER, nmk_sha256.encode("ascii"), 1)


_MOST_SCRIPT = 100_000  # bytes; Linux takes 128 KiB as one argument

# -I: what a program reads that root starts is not up to whoever owns the current directory. What
# does not come whole ends in a "!", which no script of ours does.
_FETCH_CHECK_RUN = (
    "u=$1 h=$2; shift 2; has() { command -v $1 >/dev/null; }; "
    't=$(has timeout && echo timeout 15); set -- "$u/install.sh" "$@"; '
    's=$({ if has curl; then $t curl -gfsSm 15 "$1"; '
    'elif [ "$t" ] && has wget; then $t wget -qO- "$1"; '
    'else $t python3 -Ic "import shutil, signal, sys, urllib.request as r; signal.alarm(15); '
    'shutil.copyfileobj(r.urlopen(sys.argv[1]), sys.stdout.buffer)" "$1" 2>/dev/null; fi || '
    f"echo ! 2>/dev/null; }} | head -c {_MOST_SCRIPT}); "
    "case $s in *!) "
    'echo "nmk: could not get $1 by curl, wget or python3: is one of them here, '
    'nmk server running there, its TCP port open to this machine?" >&2; exit 75;; esac; '
    'printf "%s\\n" "$s" | sha256sum | grep -q "^$h " || '
    '{ printf "nmk: %s has the wrong checksum\\n  try: on the controller, for a new line: '
    'nmk key create\\n" "$1" >&2; exit 1; }; shift; '
    '$([ "$(id -u)" = 0 ] || echo sudo) '
    'env NMK_SOURCE="$u" sh -c "$s" install.sh join - "$@"'
)


def pasted_line(url: str, script_sha256: str, token: str) -> str:
    """The shell line that makes a machine join: options of `nmk join` may be added at its end.

    `url` is the node API as the new machine reaches it, `script_sha256` the checksum of what
    `served_script` gave. Nothing is run that does not have that checksum; it is kept in a variable,
    so that nobody can change it after the check. It needs curl, wget or Python, and sudo or root.
    The token travels on standard input, where other users of the machine cannot read it.
    """
    fetch = shlex.join(["sh", "-c", _FETCH_CHECK_RUN, "-", url.rstrip("/"), script_sha256])
    return f"echo {shlex.quote(token)} | {fetch}"
