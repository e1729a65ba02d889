"""The `__main__` of the file `nmk`: unpacks it on its first start, and runs it from there.

C extensions cannot be imported from inside a zip file, so what the file carries is kept unpacked,
in a directory named by the build. What is in there runs as whoever starts nmk, root too: it must
belong to them or to root, and nobody else may be able to write to it.

    /var/cache/nmk/        root's; $XDG_CACHE_HOME/nmk or ~/.cache/nmk for others
        <build id>/        complete: it got this name when it was
        .new-<random>/     being unpacked or removed, or left so by a process that was killed

A process keeps a shared lock on the directory that it runs from, and an exclusive one on what it
unpacks or removes. Locks end with their process, so what nobody has locked may go: `.new-*` always,
builds when there are newer ones. Whoever can open a directory can lock it, so others can open none
of these. Where there is no such place, each process unpacks for itself.

Nothing is checked at a start. Where a file is missed or found cut short, as after a power cut or a
program that cleans up, the build is put out of the way, and the process executes the file anew.
Where it cannot be, as on a disk that became read-only, its place is passed over.

This file is read by whatever `python3` is, so it must parse in Pythons that are too old for nmk
(3.6 and later do). It runs at every start, so as long as nothing must be unpacked it imports only
what costs no time.
"""

import errno
import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import ModuleType

# Filled in by build_zipapp.py.
BUILD_ID = "@BUILD_ID@"
ABI = "@ABI@"

BUILDS_KEPT = 3
MOST_LEVELS = 64  # of a directory to unpack in
AGAIN = "NMK_STARTED_AGAIN"  # in the environment of a process that has started itself once more
SOON = 60.0  # seconds; damage again within this time has another cause than a file that went
TEMPORARY = "a temporary directory"

NMK_FILE = os.path.dirname(os.path.abspath(__file__))
"""The file that was started; `nmk.archive` looks for this name in `__main__`."""

_held: "list[int]" = []
"""Descriptors of locked directories, open until the process ends."""

_running: "list[str]" = []
"""The directory that this process runs from."""

_passed_over: "list[str]" = []
"""The place with a damaged build that could not be put away, if there is one."""

_may_start_again = [0.0]
"""From when on it may, in seconds as `time.monotonic` counts."""


class CannotStart(Exception):
    """What keeps nmk from starting, what to try, and the exit code."""


def main() -> None:
    """Run the nmk in this file, and end the process with its exit code."""
    try:
        if abi() != ABI:
            raise wrong_python()
        isolate()
        note_start()
        try:
            try:
                _running.append(unpacked())
            except KeyboardInterrupt:
                sys.exit(130)
            sys.path.insert(0, _running[0])
            from nmk.cli.main import main as nmk

            sys.exit(nmk())
        except Exception as error:
            start_again(error)
            raise
    except CannotStart as error:
        text, hint, exit_code = error.args
        sys.stderr.write(f"nmk: {text}\n  try: {hint}\n")
        sys.exit(exit_code)


def note_start() -> None:
    """Note whether this very process has just started itself once more; no child is told so."""
    told = os.environ.pop(AGAIN, "").split(" ", 2)
    if told[:2] == [BUILD_ID, str(os.getpid())]:
        import time

        _may_start_again[0] = time.monotonic() + SOON
        _passed_over[:] = told[2:]


def start_again(error: BaseException) -> None:
    """Execute the file anew, where the error says that what it unpacked is damaged; else return.

    It goes on with the same arguments, as a command that was cut short and is repeated. Raises
    CannotStart where that has not helped, and where it is this Python that is not whole.
    """
    module = module_of(error)
    if is_pythons(module):
        text = f"{sys.executable} is not whole, it has no {module} that works: {error}"
        hint = "install all of Python 3, not its minimal or light part"
        raise CannotStart(text, hint, 1) from None
    if not is_damage(error):
        return
    import time

    directory = _running[0]
    if time.monotonic() < _may_start_again[0] or not os.path.isfile(NMK_FILE):
        text = f"what {NMK_FILE} unpacked to {directory} is damaged: {error}"
        # What was unpacked for this process alone goes with it.
        raise CannotStart(text, f"rm -r {directory}" if _held else "start it again", 1) from None
    again = [BUILD_ID, str(os.getpid())]  # exec keeps the number
    if not put_away(directory):
        again.append(os.path.dirname(directory))
    os.environ[AGAIN] = " ".join(again)
    os.execv(sys.executable, [sys.executable, "-I", NMK_FILE, *sys.argv[1:]])  # noqa: S606


def is_damage(error: BaseException) -> bool:
    """Tell whether it is of a module or file that was unpacked and is not there, or not whole."""
    if not _running or is_lack(error):
        return False
    if isinstance(error, (OSError, SyntaxError)):
        name = error.filename
        if isinstance(name, str) and name.startswith(_running[0] + os.sep):
            return True
    module = module_of(error)
    return module is not None and not is_pythons(module)


def is_lack(error: BaseException) -> bool:
    """Tell whether the machine lacks what opening a whole file needs."""
    lacks = (errno.EMFILE, errno.ENFILE, errno.ENOMEM)
    return isinstance(error, MemoryError) or getattr(error, "errno", 0) in lacks


def module_of(error: BaseException) -> "str | None":
    """Tell which module it says is not there or not whole; None where it says that of none."""
    if is_lack(error):
        return None
    if isinstance(error, ImportError):
        return error.name
    module = getattr(error, "obj", None)
    if isinstance(error, AttributeError) and isinstance(module, type(sys)):  # it lacks a name
        return None if is_pythons(module.__name__) else module.__name__  # a mistake of ours
    trace, name = error.__traceback__, None
    while trace is not None:
        frame = trace.tb_frame
        is_importing = frame.f_code.co_filename.startswith("<frozen importlib")
        # Bytecode that was cut short: EOFError, ValueError or TypeError, by where it ends.
        if is_importing and frame.f_code.co_name == "_find_and_load":
            name = frame.f_locals.get("name")
        if trace.tb_next is None:
            return name if is_importing else None
        trace = trace.tb_next
    return None


def is_pythons(module: "str | None") -> bool:
    """Tell whether it is a module of the standard library, which the file does not carry."""
    return (module or "").partition(".")[0] in getattr(sys, "stdlib_module_names", ())


def put_away(directory: str) -> bool:
    """Have the next start unpack it anew, unless another process has seen to that.

    False where it stays, as on a read-only disk.
    """
    import shutil

    if not _held:  # unpacked for this process alone
        shutil.rmtree(directory, ignore_errors=True)
        return True
    aside = os.path.join(os.path.dirname(directory), ".new-" + os.urandom(8).hex())
    try:
        if os.path.samestat(os.fstat(_held[-1]), os.lstat(directory)):
            os.rename(directory, aside)
    except OSError as error:
        return error.errno == errno.ENOENT  # another process did it
    return True


def abi() -> str:
    """What this Python wants its C extensions to end with: it names version, CPU and libc."""
    import _imp  # always there and loaded, unlike importlib.machinery

    return _imp.extension_suffixes()[0]


def describe(ending: str) -> str:
    """Say what `.cpython-311-x86_64-linux-gnu.so` means."""
    parts = ending.strip(".").split("-")
    if parts[0] != "cpython" or len(parts) != 5:
        return f"{sys.implementation.name} {sys.version.split()[0]} ({ending})"
    version, cpu = parts[1], parts[2]
    libc = "musl" if parts[4].startswith("musl") else "glibc"
    return f"Python {version[0]}.{version[1:]} on {cpu} ({libc})"


def wrong_python() -> CannotStart:
    """Explain that this Python cannot load what is in the file."""
    import shutil

    wanted, present = describe(ABI), describe(abi())
    text = f"this file is for {wanted}; this is {present}"
    version = wanted.split()[1]
    if version not in present.split() and shutil.which("python" + version):
        return CannotStart(text, f"python{version} -I {NMK_FILE}", 1)
    return CannotStart(text, "python3 build_zipapp.py, on a machine like this one", 1)


def isolate() -> None:
    """Import from the standard library only, whatever PYTHONPATH and site-packages offer."""
    stdlib = os.path.dirname(os.__file__)
    sys.path[:] = [p for p in sys.path if p == stdlib or os.path.basename(p) == "lib-dynload"]
    sys.dont_write_bytecode = True  # it is all there
    sys.pycache_prefix = None


def unpacked() -> str:
    """Return the directory with this build, locked. Unpacks it where there is none yet."""
    places = [place for place in cache_directories() if place not in _passed_over]
    for place in places:
        close(place)
    for place in reversed(places):  # a build in the next best is there as the best would not do
        directory = os.path.join(place, BUILD_ID)
        if is_ours(place) and hold(directory):
            return directory
    umask = os.umask(0o022)
    problems = []
    try:
        for place in [*places, TEMPORARY]:
            try:
                return unpack(place)
            except OSError as error:
                problems.append(f"{place}: {error.strerror or error}")
    finally:
        os.umask(umask)
    raise CannotStart("nowhere to unpack to (" + ", ".join(problems) + ")", "df -h", 1)


def unpack(place: str) -> str:
    """Unpack below `place`, or for this process alone. OSError where that cannot be done safely."""
    unpacking = unpacker()
    directory = os.path.join(place, BUILD_ID)
    try:
        if place == TEMPORARY:
            return str(unpacking.unpack_once(NMK_FILE, BUILD_ID))
        if place.count("/") > MOST_LEVELS:  # makedirs calls itself for each
            raise OSError(0, "it has too many levels")
        os.makedirs(place, exist_ok=True)
        if not is_ours(place):
            raise PermissionError(0, "other users can write there")
        close(place)
        # Where it is there and cannot be held, it is locked by somebody who opened it before.
        unpacking.unpack_into(
            place, NMK_FILE, BUILD_ID, lambda: is_ours(directory) and not hold(directory)
        )
    except unpacking.CannotUnpack as error:
        raise CannotStart(*error.args) from None
    if not hold(directory):
        raise PermissionError(0, f"{BUILD_ID} is in the way")
    unpacking.remove_leftovers(place, BUILDS_KEPT, len(BUILD_ID))
    return directory


def unpacker() -> "ModuleType":
    """The module that unpacks, `nmk/unpacking.py`: beside this one in the file, seldom needed."""
    sys.path.insert(0, NMK_FILE)
    try:
        return __import__("unpacking")
    except ImportError:
        text = f"{NMK_FILE} was replaced while it started"
        raise CannotStart(text, "start it again", 75) from None
    finally:
        del sys.path[0]


def cache_directories() -> "list[str]":
    """List where builds are kept, best first. Not by root's $HOME: sudo may leave it a user's."""
    if os.geteuid() == 0:
        return ["/var/cache/nmk", "/run/nmk"]
    cache = os.environ.get("XDG_CACHE_HOME", "")
    if not os.path.isabs(cache):
        cache = os.path.join(os.path.expanduser("~"), ".cache")
    return [os.path.join(os.path.abspath(cache), "nmk")]


def is_ours(path: "str | int") -> bool:
    """Tell whether it is a directory to which only this user and root can have written."""
    try:
        status = os.fstat(path) if isinstance(path, int) else os.lstat(path)
    except OSError:
        return False
    is_directory = status.st_mode & 0o170000 == 0o040000
    return is_directory and status.st_uid in {0, os.geteuid()} and not status.st_mode & 0o022


def close(place: str) -> None:
    """Let nobody but its owner open what is in there, as far as that can be helped.

    Of a place that others could write to no build counts any more.
    """
    try:
        status = os.lstat(place)
        is_own = status.st_mode & 0o170000 == 0o040000 and status.st_uid == os.geteuid()
        if is_own and status.st_mode & 0o077:
            os.chmod(place, 0o700)
            for name in os.listdir(place) if status.st_mode & 0o022 else ():
                if len(name) == len(BUILD_ID) and set(name) <= set("0123456789abcdef"):
                    aside = os.path.join(place, ".new-" + os.urandom(8).hex())
                    os.rename(os.path.join(place, name), aside)
    except OSError:
        pass  # on a read-only disk, or gone meanwhile


def hold(directory: str) -> bool:
    """Lock it for as long as this process lives; False where it is absent or not ours."""
    import fcntl

    try:
        lock = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    except OSError:
        return False
    try:
        fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
        if is_ours(lock) and os.path.samestat(os.fstat(lock), os.lstat(directory)):
            _held.append(lock)
            return True
    except OSError:
        pass  # it is just being removed
    os.close(lock)
    return False


if __name__ == "__main__":
    main()
