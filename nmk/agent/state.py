"""The state files: one a network, in one directory, each replaced whole.

With 10,000 peers one takes half a second to check, so that is done once for each file that comes.
"""

from __future__ import annotations

import errno
import os
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from nmk.agent import history, kill_note
from nmk.agent.membership import Membership, decode, encode, is_foreign
from nmk.agent.places import (
    forget_runtime,
    make_runtime_directory,
    runtime_directory,
    state_directory,
)
from nmk.core.parse import find_meant, parse_label, quote
from nmk.errors import (
    Ambiguous,
    BadInput,
    FileUnusable,
    NotJoined,
    StateDamaged,
    StateNewer,
    StateUnwritable,
)
from nmk.files import (
    open_of_root_alone,
    open_regular,
    read_file,
    read_whole,
    temporary_of,
    write_private,
)

MOST_BYTES = 32 * 1024 * 1024  # above the state of the largest network that is taken in
_HEAD = 4096  # bytes, in which a state has fields that nothing else has
_KEPT = {errno.EROFS, errno.EPERM, errno.EACCES}  # of a place where nothing can be removed
_MOVE = "move it away: mv"
_MOST_VERSION = 128  # bytes
_Version = tuple[int, int, int]  # inode, mtime in ns, size
_read: dict[Path, tuple[_Version, Membership]] = {}  # of each file


def networks() -> list[str]:
    """The networks that this machine has a state file of, sorted; other files do not count.

    Also one whose file has gone, where the note of its kill switch says that there was one. Raises
    StateDamaged where nobody can tell.
    """
    found = []
    for name in _names():
        with suppress(BadInput):
            network = parse_label(name)
            if not is_others(file_of(network)):
                found.append(network)
    return sorted(found)


def is_others(path: Path) -> bool:
    """Whether a file that is called like a state is another program's: it counts as none.

    Whatever is in it, one with the note of a kill switch beside it is a state.
    """
    try:
        with open_regular(path) as file:
            return is_foreign(file.read(_HEAD)) and not os.path.lexists(kill_note.beside(path))
    except OSError:
        return False


def _names() -> list[str]:
    directory = state_directory()
    try:
        paths = list(directory.iterdir())
        noted = {p.stem for p in paths if p.suffix == kill_note.SUFFIX and kill_note.noted(p.stem)}
        return [*{path.stem for path in paths if path.suffix == ".json"} | noted]
    except FileNotFoundError:
        return []
    except OSError as error:
        if isinstance(error, PermissionError) and os.geteuid() != 0:
            return []  # a dry run of another user's
        raise StateDamaged(
            f"{directory} cannot be read: {error.strerror}", FileUnusable.default_hint
        ) from None


LEFT_HINT = "nmk doctor, which looks for what is left of one"


def choose(network: str | None, hint: str | None = None) -> str:
    """The network named, else the only one. Raises NotJoined, Ambiguous.

    `hint`: what to try where the machine is in no network, if that is not to join one.
    """
    known = networks()
    if network is not None:
        if network not in known:
            raise unknown(network, hint)
        return network
    if not known:
        raise NotJoined("this machine is in no network", hint)
    if len(known) > 1:
        raise Ambiguous(f"this machine is in {len(known)} networks: {', '.join(known)}")
    return known[0]


def unknown(network: str, hint: str | None = None) -> NotJoined:
    """That there is no such network here, and which there are: a name is easily mistyped."""
    known = networks()
    if known:
        meant = find_meant(network, known)
        hint = (
            f"write -n {meant}" if meant else f"name one that it is in, with -n: {', '.join(known)}"
        )
    return NotJoined(f"this machine is not in a network named {quote(network)}", hint)


def load(network: str) -> Membership:
    """What the network's file holds. Raises NotJoined, StateDamaged, StateNewer."""
    found = find(network)
    if found is None:
        raise unknown(network)
    return found


def others(network: str) -> list[Membership]:
    """The other networks' files, as far as they can be read: one's damage is no other's."""
    found = []
    for name in networks():
        with suppress(StateDamaged, NotJoined):
            if name != network:
                found.append(load(name))
    return found


def find(network: str) -> Membership | None:
    """As `load`; None where there is no file, and should be none."""
    path = file_of(network)
    try:
        return read(path, network)
    except FileNotFoundError:
        if kill_note.noted(network):
            raise StateDamaged(f"{path} has gone", _cure(network)) from None
        return None
    except OSError as error:
        raise StateDamaged(f"{path} cannot be read: {error.strerror}", _cure(network)) from None
    except StateNewer:
        raise
    except StateDamaged as error:
        error.hint = f"{_MOVE} {path} /root/" if is_others(path) else _cure(network)
        raise


def read(path: Path, network: str) -> Membership:
    """What a network's file holds. Raises OSError, StateDamaged, StateNewer.

    In another directory it is read only where nobody but root can have written it.
    """
    is_here = path.parent == state_directory()
    with open_regular(path) if is_here else open_of_root_alone(path) as file:
        version = _version(os.fstat(file.fileno()))
        before = _read.get(path)
        if before and before[0] == version:
            return before[1]
        raw = read_whole(file, MOST_BYTES)
    me = decode(raw, network, str(path))
    _read[path] = (version, me)
    return me


def _cure(network: str) -> str:
    opens = ", which opens its kill switch" if kill_note.noted(network) else ""
    leaves = f"nmk leave -n {network} --force{opens}"
    return f"restore the file from a backup, or: {leaves}; then join again"


def save(me: Membership) -> None:
    """Replace the network's file by one that can be read again. Raises StateUnwritable."""
    path, raw = file_of(me.network), encode(me)
    _check_readable(me, str(path))
    if len(raw) > MOST_BYTES:
        raise StateUnwritable(
            f"{path} would have {len(raw)} bytes, above the bound of {MOST_BYTES}"
        )
    shut = kill_note.wanted(me)
    is_told = tells_laid(me.network)
    try:
        if shut:
            kill_note.note(me.network, on=True)
        write_private(path, raw)
        if shut is False:  # last, so that a crash leaves it shut
            kill_note.note(me.network, on=False)
    except OSError as error:
        raise StateUnwritable(f"{path} cannot be written: {error.strerror}") from None
    if is_told:
        note_laid(me.network)


def tells_laid(network: str) -> bool:
    """Whether the file tells what is laid: it is the one that this machine had since it looked.

    Not one that was put back, which is of another time; nor the first after a reboot.
    """
    with suppress(OSError):
        return read_file(_laid_file(network), _MOST_VERSION) == _laid_text(network)
    return False


def note_laid(network: str) -> None:
    """Note that the machine was looked at, and that the file there is now tells what is laid."""
    if not tells_laid(network):
        with suppress(OSError):  # it is looked at each time then
            make_runtime_directory()
            write_private(_laid_file(network), _laid_text(network))


def _laid_file(network: str) -> Path:
    return runtime_directory() / f"{network}.laid"


def _laid_text(network: str) -> bytes:
    return " ".join(map(str, _version(file_of(network).stat()))).encode()


def _version(info: os.stat_result) -> _Version:
    return info.st_ino, info.st_mtime_ns, info.st_size


def _check_readable(me: Membership, where: str) -> None:
    """Raises StateUnwritable where the file would be damaged.

    The view is left out, as it was read with the same parsers, and what grows with it.
    """
    head = replace(me, phase="joining", known=None, endpoints={})
    try:
        decode(encode(head), me.network, where)
    except StateDamaged as error:
        raise StateUnwritable(f"what is to be written could not be read: {error.message}") from None


def remove(network: str) -> None:
    """Remove the network's files, and the directory with the last one. Raises StateUnwritable."""
    path = file_of(network)
    forget_runtime(network, is_last=networks() in ([], [network]))
    theirs = is_others(path)
    try:
        history.forget(network)
        kill_note.forget(network)
        temporary_of(path).unlink(missing_ok=True)
        if path.is_dir() and not path.is_symlink():
            path.rmdir()  # only an empty one: what is in it is not ours
        if not theirs:
            path.unlink(missing_ok=True)
    except OSError as error:
        mend = f"{_MOVE} {path} /root/" if path.is_dir() else _remove_hint(network)
        raise StateUnwritable(f"{path} cannot be removed: {error.strerror}", mend) from None
    with suppress(OSError):  # another network's state is in there, or a controller's
        path.parent.rmdir()


def check_removable(network: str) -> None:
    """Look whether the network's file can be removed. Raises StateUnwritable, and changes nothing.

    A full disk is no hindrance; one that is read-only is, and a file that chattr(1) keeps.
    """
    path, reason = file_of(network), ""
    try:
        os.close(os.open(path.parent, os.O_TMPFILE | os.O_WRONLY, 0o600))  # has no name
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno in _KEPT else ""
    if not reason and not os.access(path, os.W_OK):
        reason = os.strerror(errno.EPERM)
    if reason:
        what = f"{path} cannot be removed: {reason}; nothing was done"
        raise StateUnwritable(what, _remove_hint(network))


def _remove_hint(network: str) -> str:
    return f"make it writable, then: nmk leave -n {network}"


def make_directory() -> Path:
    """The state directory, made where it is absent. Raises StateUnwritable."""
    directory = state_directory()
    try:
        if not directory.is_dir():
            directory.mkdir(mode=0o711, parents=True, exist_ok=True)
            directory.chmod(0o711)  # whatever the umask is
    except OSError as error:
        raise StateUnwritable(f"{directory} cannot be made: {error.strerror}") from None
    return directory


def file_of(network: str) -> Path:
    """The network's file."""
    return state_directory() / f"{network}.json"
