"""How the file `nmk` is unpacked; a module of its own in it, which only a first start needs.

`nmk.bootstrap` says what is in there, and who may write and lock there. As that, it is read where
nothing of nmk's can be imported yet.
"""

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable


class CannotUnpack(Exception):
    """What is wrong with the file, what to try, and the exit code."""


def unpack_into(place: str, file: str, build: str, is_in_the_way: "Callable[[], bool]") -> None:
    """Unpack a file's build below `place` for all starts to come. OSError, CannotUnpack."""
    import contextlib
    import shutil

    directory = os.path.join(place, build)
    new, lock = make_locked(place)
    try:
        extract(file, build, new)
        os.sync()  # after a power cut, a directory of that name must have its files
        if is_in_the_way():
            os.rename(directory, os.path.join(place, ".new-" + os.urandom(8).hex()))
        with contextlib.suppress(OSError):  # another process was faster
            os.rename(new, directory)
    finally:
        shutil.rmtree(new, ignore_errors=True)
        os.close(lock)


def unpack_once(file: str, build: str) -> str:
    """Unpack for this process alone."""
    import atexit
    import shutil
    import tempfile

    # Not by root's $TMPDIR: whoever owns the parent can put another directory in its place.
    parent = "/tmp" if os.geteuid() == 0 else None  # noqa: S108
    directory = tempfile.mkdtemp(prefix="nmk-", dir=parent)
    owner = os.getpid()

    def remove() -> None:
        if os.getpid() == owner:  # not at the end of a forked child
            shutil.rmtree(directory, ignore_errors=True)

    atexit.register(remove)
    extract(file, build, directory)
    return directory


def make_locked(place: str) -> "tuple[str, int]":
    """Make a new directory with an exclusive lock: its path and the lock's descriptor."""
    import fcntl

    while True:
        new = os.path.join(place, ".new-" + os.urandom(8).hex())
        os.mkdir(new)
        try:
            lock = os.open(new, os.O_RDONLY | os.O_DIRECTORY)
        except FileNotFoundError:
            continue  # another process tidied up before we could lock it
        fcntl.flock(lock, fcntl.LOCK_EX)
        if os.path.exists(new):
            return new, lock
        os.close(lock)


def extract(file: str, build: str, directory: str) -> None:
    """Write what the file carries into `directory`, compiled to bytecode. OSError, CannotUnpack."""
    import compileall
    import io
    import py_compile
    import warnings
    import zipfile

    if os.statvfs(directory).f_flag & os.ST_NOEXEC:
        raise PermissionError(0, "mounted noexec")
    try:
        with zipfile.ZipFile(file) as outer:
            carried = outer.read(build + ".zip")
    except KeyError:
        text = f"{file} was replaced while it started"
        raise CannotUnpack(text, "start it again", 75) from None
    except Exception as error:  # noqa: BLE001 - each way to compress has errors of its own
        raise CannotUnpack(f"cannot read {file}: {error}", "download it again", 1) from None
    with zipfile.ZipFile(io.BytesIO(carried)) as inner:
        inner.extractall(directory)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        # Never compared with the source again: nobody but us writes here.
        mode = py_compile.PycInvalidationMode.UNCHECKED_HASH
        compileall.compile_dir(directory, quiet=2, invalidation_mode=mode)


def remove_leftovers(place: str, kept: int, length: int) -> None:
    """Remove what killed processes left, and old builds from which nothing runs.

    `kept`: the number of the newest builds that stay; `length`: of a build's name. Other files are
    none of our business.
    """

    def age(name: str) -> float:
        return -os.lstat(os.path.join(place, name)).st_mtime

    names = os.listdir(place)
    left = [name for name in names if name.startswith(".new-")]
    builds = [n for n in names if len(n) == length and set(n) <= set("0123456789abcdef")]
    try:
        builds.sort(key=age)
    except OSError:
        return  # another process is at it
    for name in left + builds[kept:]:
        remove_unlocked(os.path.join(place, name))


def remove_unlocked(directory: str) -> None:
    """Remove it unless a process uses it."""
    import fcntl
    import shutil

    try:
        lock = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    except OSError:
        return
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        doomed = os.path.join(os.path.dirname(directory), ".new-" + os.urandom(8).hex())
        os.rename(directory, doomed)  # whole to the last: it vanishes at once, not file by file
        shutil.rmtree(doomed)
    except OSError:
        pass
    finally:
        os.close(lock)
