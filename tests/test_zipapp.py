"""The file `nmk`: how it is built, unpacked and started.

Most tests start a small file with the real start-up script and a stand-in for the program: as a
user without rights and with a cache of their own, or as root with an empty /var/cache and /run.
"""

from __future__ import annotations

import ast
import fcntl
import io
import os
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import build_zipapp
from nmk import bootstrap
from tests.lab import patient
from tests.mesh import NMK

NOBODY = 65534
PYTHON = os.path.realpath(sys.executable)
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
ROOT = Path(build_zipapp.__file__).parent

STAND_IN = """
import os, sys, time
from nmk import archive

def main():
    if sys.argv[1:] == ["late"]:
        from nmk import version
    if sys.argv[1:] == ["sleep"]:
        print("sleeping", flush=True)
        time.sleep(60)
    print(os.path.dirname(os.path.dirname(archive.__file__)))
    print(archive.running_file())
    return 3
"""

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="starts nmk as several users")


def make_file(path: Path, version: int = 1, abi: str = bootstrap.abi()) -> Path:
    """A file `nmk` with the stand-in for the program; every version is another build."""
    carried = {
        "nmk/__init__.py": b"",
        "nmk/archive.py": (ROOT / "nmk" / "archive.py").read_bytes(),
        "nmk/version.py": f"VERSION = {version}\n".encode(),
        "nmk/cli/__init__.py": b"",
        "nmk/cli/main.py": STAND_IN.encode(),
        **{f"nmk/more/module_{i}.py": b"def f(x): return [x] * 3\n" * 50 for i in range(50)},
    }
    build_zipapp.write_executable(path, build_zipapp.render_zipapp(carried, abi))
    return path


def build_id(file: Path) -> str:
    with zipfile.ZipFile(file) as content:
        return next(Path(name).stem for name in content.namelist() if name.endswith(".zip"))


class User:
    """A user without rights, with a cache of their own."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.cache = home / "cache" / "nmk"
        self.env = {"PATH": PATH, "XDG_CACHE_HOME": str(home / "cache"), "TMPDIR": str(home)}

    def spawn(self, file: Path, *args: str, umask: int = 0o022) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [PYTHON, str(file), *args],
            env=self.env,
            user=NOBODY,
            group=NOBODY,
            extra_groups=[],
            umask=umask,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )

    def start(self, file: Path, *args: str, umask: int = 0o022) -> list[str]:
        """Start it and expect that it works: the lines that the stand-in prints."""
        with self.spawn(file, *args, umask=umask) as process:
            out, err = process.communicate(timeout=patient(60))
        assert (process.returncode, err) == (3, "")
        return out.splitlines()

    def fail(self, file: Path) -> tuple[int, str]:
        """Start it and expect that it says why it cannot: exit code and message."""
        with self.spawn(file) as process:
            out, err = process.communicate(timeout=patient(60))
        assert out == ""
        assert "Traceback" not in err
        return process.returncode, err

    def cached(self) -> list[str]:
        return sorted(path.name for path in self.cache.iterdir())


@pytest.fixture
def home() -> Iterator[Path]:
    """A directory of the user's; pytest's own are closed to other users."""
    with tempfile.TemporaryDirectory() as path:
        os.chown(path, NOBODY, NOBODY)
        yield Path(path)


@pytest.fixture
def user(home: Path) -> User:
    return User(home)


@pytest.fixture
def file(home: Path) -> Path:
    return make_file(home / "nmk")


def test_first_start_unpacks_and_the_next_use_that(user: User, file: Path) -> None:
    directory = user.cache / build_id(file)
    assert user.start(file) == [str(directory), str(file)]
    before = directory.stat()
    assert user.start(file) == [str(directory), str(file)]
    assert directory.stat() == before
    assert user.cached() == [directory.name]


@pytest.mark.parametrize("umask", [0o000, 0o077])
def test_unpacked_files_are_the_owners_to_write_alone(user: User, file: Path, umask: int) -> None:
    user.start(file, umask=umask)
    for path in [user.cache, *user.cache.rglob("*")]:
        status = path.stat()
        assert status.st_uid == NOBODY
        assert not status.st_mode & (stat.S_IWGRP | stat.S_IWOTH), path


def test_everything_is_compiled(user: User, file: Path) -> None:
    user.start(file)
    sources = list(user.cache.rglob("*.py"))
    assert len(sources) > 50
    for source in sources:
        assert (
            source.parent / "__pycache__" / f"{source.stem}.{sys.implementation.cache_tag}.pyc"
        ).exists()


def test_a_warm_start_imports_little(user: User, file: Path) -> None:
    user.start(file)
    result = subprocess.run(
        [PYTHON, "-X", "importtime", str(file)],
        env=user.env,
        user=NOBODY,
        capture_output=True,
        text=True,
        check=False,
    )
    imported = {line.rpartition("|")[2].strip() for line in result.stderr.splitlines()}
    assert "nmk.archive" in imported
    assert not imported & {"compileall", "lzma", "shutil", "tempfile", "zipfile"}


def test_many_first_starts_at_once(user: User, file: Path) -> None:
    processes = [user.spawn(file) for _ in range(6)]
    outputs = {process.communicate(timeout=patient(60)) for process in processes}
    assert len(outputs) == 1
    assert all(process.returncode == 3 for process in processes)
    assert user.cached() == [build_id(file)]


def test_killed_at_any_point_the_next_start_works(user: User, file: Path) -> None:
    user.start(file)
    whole = len(list(user.cache.rglob("*")))
    shutil.rmtree(user.cache)
    left_half_way = 0
    for step in range(20):
        with user.spawn(file) as process:
            while len(list(user.cache.rglob("*"))) < whole * step / 20 and process.poll() is None:
                pass
            process.kill()
        left_half_way += user.cache.exists() and any(n.startswith(".new") for n in user.cached())
        assert user.start(file)[0] == str(user.cache / build_id(file))
        assert user.cached() == [build_id(file)]
        shutil.rmtree(user.cache)
    assert left_half_way


def test_interrupted_it_leaves_nothing(user: User, file: Path) -> None:
    with user.spawn(file) as process:
        while not list(user.cache.glob(".new-*/nmk/more/module_1*.py")):
            assert process.poll() is None
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=patient(60))
    assert (process.returncode, err) == (130, "")
    assert user.cached() == []


def test_builds_in_use_and_the_newest_are_kept(user: User, home: Path) -> None:
    files = [make_file(home / f"nmk{version}", version) for version in range(6)]
    with user.spawn(files[0], "sleep") as sleeper:
        assert sleeper.stdout
        assert sleeper.stdout.readline() == "sleeping\n"
        (user.cache / "something-else").mkdir()
        for file in files[1:]:
            user.start(file)
        (user.cache / "something-else").rmdir()
        assert user.cached() == sorted(build_id(files[i]) for i in (0, 3, 4, 5))
        sleeper.kill()
    user.start(make_file(home / "nmk6", 6))
    assert build_id(files[0]) not in user.cached()


@pytest.mark.parametrize("mode", [0o775, 0o757])
def test_a_cache_that_others_could_write_to_is_closed(user: User, file: Path, mode: int) -> None:
    user.start(file)
    user.cache.chmod(mode)
    assert user.start(file)[0] == str(user.cache / build_id(file))
    assert stat.S_IMODE(user.cache.stat().st_mode) == 0o700


def test_a_cache_that_others_can_open_is_closed_to_them(user: User, file: Path) -> None:
    user.start(file)
    assert stat.S_IMODE(user.cache.stat().st_mode) == 0o700
    user.cache.chmod(0o755)
    assert user.start(file)[0] == str(user.cache / build_id(file))
    assert stat.S_IMODE(user.cache.stat().st_mode) == 0o700


def test_a_lock_that_somebody_has_already_is_got_out_of_the_way(user: User, file: Path) -> None:
    """Whoever opened a build while that could be opened goes on holding what is nobody's now."""
    user.start(file)
    directory = user.cache / build_id(file)
    handle = os.open(directory, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        for _ in range(2):
            assert user.start(file)[0] == str(directory)
    finally:
        os.close(handle)


def test_a_cache_with_more_levels_than_any_has_is_not_made(
    user: User, home: Path, file: Path
) -> None:
    user.env["XDG_CACHE_HOME"] = f"{home}{'/x' * 1900}"
    assert user.start(file)
    assert not (home / "x").exists()


def test_a_cache_of_another_user_is_not_used(user: User, file: Path) -> None:
    user.start(file)
    os.chown(user.cache, 1234, 1234)
    assert Path(user.start(file)[0]).parent == user.home


def test_a_link_in_place_of_the_cache_is_not_followed(user: User, file: Path) -> None:
    user.start(file)
    user.cache.rename(user.cache.with_name("elsewhere"))
    user.cache.symlink_to("elsewhere")
    assert Path(user.start(file)[0]).parent == user.home


def test_a_cache_that_was_opened_to_others_is_closed_and_nothing_in_it_is_run(
    user: User, file: Path
) -> None:
    expected = user.start(file)
    build = user.cache / build_id(file)
    before = build.stat().st_ino
    user.cache.chmod(0o777)
    assert user.start(file) == expected
    assert stat.S_IMODE(user.cache.stat().st_mode) == 0o700
    assert build.stat().st_ino != before
    assert user.cached() == [build_id(file)]


def test_a_cache_that_was_opened_is_closed_though_there_is_another_place(file: Path) -> None:
    mode = r"stat -c %a /var/cache/nmk"
    prepare = (
        "{ mount -o remount,ro /var/cache; $0 $1; mount -o remount,rw /var/cache; "
        f"mkdir -m 777 /var/cache/nmk; $0 $1; {mode}; true; }}"
    )
    said = start_as_root(file, prepare, {})
    assert [line for line in said if line.startswith("/run/nmk/")][1:]
    assert "700" in said


def test_a_build_that_others_can_write_to_is_not_used(user: User, file: Path) -> None:
    user.start(file)
    (user.cache / build_id(file)).chmod(0o777)
    assert Path(user.start(file)[0]).parent == user.home


def test_imports_come_from_the_file_and_python_alone(user: User, file: Path) -> None:
    decoy = user.home / "decoy"
    (decoy / "nmk").mkdir(parents=True)
    for name in ("nmk/__init__.py", "zipfile.py", "fcntl.py"):
        (decoy / name).write_text("raise SystemExit('decoy imported')")
    user.env["PYTHONPATH"] = str(decoy)
    user.env["PYTHONPYCACHEPREFIX"] = str(user.home / "pycache")
    for _ in "cold", "warm":
        assert user.start(file)[0] == str(user.cache / build_id(file))
    assert not list((user.home / "pycache").rglob("nmk"))


def test_another_python_is_told_what_the_file_is_for(user: User, home: Path) -> None:
    file = make_file(home / "nmk", abi=".cpython-399-riscv64-linux-musl.so")
    code, message = user.fail(file)
    assert code == 1
    this = f"Python {sys.version_info[0]}.{sys.version_info[1]} on {os.uname().machine} (glibc)"
    assert message == (
        f"nmk: this file is for Python 3.99 on riscv64 (musl); this is {this}\n"
        "  try: python3 build_zipapp.py, on a machine like this one\n"
    )


def test_a_fitting_python_is_suggested(user: User, home: Path) -> None:
    file = make_file(home / "nmk", abi=".cpython-399-x86_64-linux-gnu.so")
    (home / "python3.99").touch(0o755)
    user.env["PATH"] += f":{home}"
    assert user.fail(file)[1].endswith(f"\n  try: python3.99 -I {file}\n")


def test_old_pythons_can_read_the_start_up_script() -> None:
    ast.parse(Path(bootstrap.__file__).read_text(encoding="utf-8"), feature_version=(3, 6))


def test_a_damaged_file_says_so(user: User, file: Path) -> None:
    with zipfile.ZipFile(file) as archived:
        start = archived.getinfo(f"{build_id(file)}.zip").header_offset
    content = bytearray(file.read_bytes())
    content[start + 100 : start + 200] = bytes(100)
    file.write_bytes(content)
    code, message = user.fail(file)
    assert code == 1
    assert message.startswith(f"nmk: cannot read {file}: ")
    assert message.endswith("\n  try: download it again\n")
    assert user.cached() == []


def test_a_file_replaced_while_it_starts_is_not_mixed_up(user: User, file: Path) -> None:
    content = file.read_bytes()
    old_id = build_id(file).encode()
    file.write_bytes(content.replace(b'BUILD_ID = "' + old_id, b'BUILD_ID = "' + b"0" * 16))
    assert user.fail(file) == (
        75,
        f"nmk: {file} was replaced while it started\n  try: start it again\n",
    )


def remove(build: Path, *names: str) -> None:
    for path in (path for name in names for path in build.rglob(f"{name}.*")):
        path.unlink()


def cut(build: Path, size: int) -> None:
    """Cut modules and their bytecode short."""
    for path in (path for name in ("main", "version") for path in build.rglob(f"{name}.*")):
        os.truncate(path, min(size, path.stat().st_size))


def mislead(build: Path) -> None:
    shutil.rmtree(build / "nmk")
    (build / "nmk").symlink_to("/nowhere")


DAMAGE: dict[str, Callable[[Path], object]] = {
    "all files gone": lambda build: shutil.rmtree(build / "nmk"),
    "modules gone": lambda build: remove(build, "version", "archive"),
    "modules empty": lambda build: cut(build, 0),
    "modules cut short": lambda build: cut(build, 17),
    "a link to nowhere": mislead,
}


@pytest.mark.parametrize("damage", DAMAGE)
@pytest.mark.parametrize("args", [[], ["late"]], ids=["at once", "late"])
def test_a_damaged_build_is_unpacked_once_more(
    user: User, file: Path, damage: str, args: list[str]
) -> None:
    """The same command works, and all after it."""
    expected = user.start(file)
    DAMAGE[damage](user.cache / build_id(file))
    assert user.start(file, *args) == expected
    assert user.start(file, *args) == expected
    user.start(make_file(file.with_name("next"), version=2))  # which tidies up
    assert len(user.cached()) == 2


def test_what_others_run_from_is_not_taken_from_them(user: User, file: Path) -> None:
    expected = user.start(file)
    with user.spawn(file, "sleep") as running:
        assert running.stdout
        assert running.stdout.readline() == "sleeping\n"
        build = user.cache / build_id(file)
        (build / "nmk" / "cli" / "main.py").unlink()
        shutil.rmtree(build / "nmk" / "cli" / "__pycache__")
        assert user.start(file) == expected
        assert [n for n in user.cached() if n.startswith(".new-")]
        running.kill()


def test_a_build_that_does_not_get_better_is_told_of_in_one_line(home: Path) -> None:
    """Started again once, and not for ever; whoever inherits the environment has a turn too."""
    carried = {
        "nmk/__init__.py": b"",
        "nmk/archive.py": (ROOT / "nmk" / "archive.py").read_bytes(),
        "nmk/cli/__init__.py": b"",
        "nmk/cli/main.py": b"import os, nmk.missing",
    }
    file, user = home / "nmk", User(home)
    build_zipapp.write_executable(file, build_zipapp.render_zipapp(carried, bootstrap.abi()))
    user.env["NMK_STARTED_AGAIN"] = f"{build_id(file)} 1"
    code, said = user.fail(file)
    assert code == 1
    assert said.startswith(
        f"nmk: what {file} unpacked to {user.cache}/{build_id(file)} is damaged:"
    )
    assert said.endswith(f"nmk.missing'\n  try: rm -r {user.cache}/{build_id(file)}\n")


@pytest.mark.parametrize("when", ["at once", "late"])
def test_a_python_that_is_not_whole_is_no_damaged_build(home: Path, when: str) -> None:
    """A module of its own is missing, as where only a part of Python is installed."""
    lines = ["sys.modules['sqlite3'] = None", "import sqlite3"]
    late = "def main():\n " + "\n ".join(lines)
    carried = {
        "nmk/__init__.py": b"",
        "nmk/cli/__init__.py": b"",
        "nmk/cli/main.py": "\n".join(
            ["import sys", *(lines if when == "at once" else [late])]
        ).encode(),
    }
    file, user = home / "nmk", User(home)
    build_zipapp.write_executable(file, build_zipapp.render_zipapp(carried, bootstrap.abi()))
    code, said = user.fail(file)
    [build] = user.cache.iterdir()
    before = build.stat().st_ino
    assert user.fail(file) == (code, said)
    assert (code, build.stat().st_ino) == (1, before)
    assert said.startswith(f"nmk: {PYTHON} is not whole, it has no sqlite3 that works: ")
    assert said.endswith("\n  try: install all of Python 3, not its minimal or light part\n")


def test_a_mistake_in_the_program_starts_nothing_again(user: User, file: Path) -> None:
    carried = {
        "nmk/__init__.py": b"",
        "nmk/cli/__init__.py": b"",
        "nmk/cli/main.py": b"def main():\n    print('once', flush=True)\n    open('/nowhere/x')\n",
    }
    build_zipapp.write_executable(file, build_zipapp.render_zipapp(carried, bootstrap.abi()))
    with user.spawn(file) as process:
        out, err = process.communicate(timeout=patient(60))
    assert out == "once\n"
    assert "FileNotFoundError" in err


def test_starts_while_another_process_removes_the_cache(user: User, file: Path) -> None:
    """They work, or say in one line that they do not."""
    expected = user.start(file)
    processes = []
    for _ in range(12):
        processes.append(user.spawn(file))
        shutil.rmtree(user.cache, ignore_errors=True)
    for process in processes:
        out, err = process.communicate(timeout=patient(60))
        assert "Traceback" not in err
        assert process.returncode in {1, 3, 75}
        assert process.returncode != 3 or out.splitlines()[1:] == expected[1:]
    assert user.start(file) == expected


def start_as_root(file: Path, prepare: str, env: dict[str, str]) -> list[str]:
    """Start it as root, with /var/cache and /run empty, and after the shell command `prepare`."""
    script = (
        f"mount -t tmpfs none /var/cache && mount -t tmpfs none /run && {prepare} && exec $0 $1"
    )
    result = subprocess.run(
        ["unshare", "--mount", "sh", "-c", script, PYTHON, str(file)],
        env={"PATH": PATH, **env},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (result.returncode, result.stderr) == (3, "")
    return result.stdout.splitlines()


def test_root_does_not_unpack_into_the_home_that_sudo_left(home: Path, file: Path) -> None:
    env = {"HOME": str(home), "XDG_CACHE_HOME": str(home), "TMPDIR": str(home)}
    assert start_as_root(file, "true", env)[0] == f"/var/cache/nmk/{build_id(file)}"
    read_only = "mount -o remount,ro /var/cache && mount -o remount,ro /run"
    assert start_as_root(file, read_only, env)[0].startswith("/tmp/nmk-")
    assert sorted(home.iterdir()) == [file]


@pytest.mark.parametrize("option", ["ro", "noexec"])
def test_root_without_a_fit_var_cache_unpacks_into_run(file: Path, option: str) -> None:
    directory = start_as_root(file, f"mount -o remount,{option} /var/cache", {})[0]
    assert directory == f"/run/nmk/{build_id(file)}"


def test_root_does_not_run_what_a_user_put_there(file: Path) -> None:
    planted = f"/var/cache/nmk/{build_id(file)}/nmk/cli"
    prepare = f"mkdir -p {planted} && chown -R 1234 /var/cache/nmk"
    assert start_as_root(file, prepare, {})[0].startswith("/run/nmk/")


@pytest.mark.parametrize("args", ["", "late"], ids=["at once", "late"])
@pytest.mark.parametrize(
    ("run", "place"), [("true", "/run/nmk/"), ("mount -o remount,ro /run", "/tmp/nmk-")]
)
def test_a_damaged_build_on_a_read_only_disk_is_passed_over(
    file: Path, args: str, run: str, place: str
) -> None:
    """What it unpacks beside that is there for the starts that come, which need no second try."""
    damage = r"find /var/cache/nmk \( -name 'version.*' -o -name 'archive.*' \) -delete"
    prepare = f"{{ $0 $1; {damage}; mount -o remount,ro /var/cache; {run}; $0 $1 {args}; true; }}"
    if "/run" in place:  # a second try would say that the first did not help
        prepare += f"; export NMK_STARTED_AGAIN='{build_id(file)} '$$"
    directories = start_as_root(file, prepare, {})[::2]
    assert [name.startswith(place) for name in directories] == [False, True, True]


class Builder:
    """One way to build: a place, a user, an umask and a time zone."""

    def __init__(self, uid: int, umask: int, time_zone: str) -> None:
        self.scratch = tempfile.TemporaryDirectory()
        self.home = Path(self.scratch.name)
        self.output = self.home / "out" / "nmk"
        source = self.home / f"source-{uid}"
        names = ("build_zipapp.py", "install.sh", "LICENSE", "nmk", "scripts/requirements.txt")
        for name in names:
            copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            copy(ROOT / name, source / name)
        (source / "nmk" / "left-over.txt").touch()
        for path in [self.home, *self.home.rglob("*")]:
            os.chown(path, uid, uid)
        settings = {k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "XDG_"))}
        self.process = subprocess.Popen(
            [PYTHON, str(source / "build_zipapp.py"), "--output", str(self.output)],
            env={**settings, "HOME": str(self.home), "TZ": time_zone, "LC_ALL": "C"},
            cwd="/",
            user=uid,
            group=uid,
            extra_groups=[],
            umask=umask,
        )

    def result(self) -> bytes:
        assert self.process.wait(timeout=patient(300)) == 0
        assert stat.S_IMODE(self.output.stat().st_mode) == 0o755
        return self.output.read_bytes()


@pytest.fixture(scope="module")
def builders() -> Iterator[list[Builder]]:
    both = [Builder(0, 0o022, "UTC"), Builder(NOBODY, 0o077, "Asia/Kathmandu")]
    yield both
    for builder in both:
        builder.process.kill()
        builder.process.wait()
        builder.scratch.cleanup()


def test_the_same_source_gives_the_same_bytes(builders: list[Builder]) -> None:
    first, second = (builder.result() for builder in builders)
    assert first == second


def test_the_file_carries_what_nmk_needs_and_no_more(builders: list[Builder]) -> None:
    builders[0].result()
    with zipfile.ZipFile(builders[0].output) as file:
        payload = io.BytesIO(file.read(f"{build_id(builders[0].output)}.zip"))
    names = zipfile.ZipFile(payload).namelist()
    assert {"nmk/install.sh", "nmk/LICENSE", "nmk/cli/main.py", "peewee.py"} <= set(names)
    assert any(name.startswith("nacl/_sodium.") for name in names)
    for unneeded in (".pyi", ".pyc", "/RECORD", "/INSTALLER", "left-over.txt"):
        assert not [name for name in names if name.endswith(unneeded)]


@pytest.mark.parametrize(
    "what", ["nmk/tools", "nmk/cli/machine", "nacl/_sodium", "click/__init__", "nmk/cli/main"]
)
def test_a_damaged_build_of_the_real_file_is_unpacked_once_more(user: User, what: str) -> None:
    file = shutil.copy(NMK, user.home / "nmk")

    def version() -> tuple[int, str]:
        with user.spawn(Path(file), "node", "list", "--server", "http://127.0.0.1:1") as process:
            _, err = process.communicate(timeout=patient(60))
            return process.returncode, err

    expected = version()
    assert expected[0] == 75
    [build] = user.cache.iterdir()
    name = Path(what)
    for path in build.rglob(f"{name.name}.*"):
        if path.suffix == ".so":
            path.write_bytes(path.read_bytes()[:100])
        else:
            path.unlink()
    assert version() == expected
    assert version() == expected


def test_the_file_runs(builders: list[Builder], user: User) -> None:
    builders[0].result()
    builders[0].home.chmod(0o755)
    with user.spawn(builders[0].output, "version") as process:
        out, err = process.communicate(timeout=patient(60))
    assert (process.returncode, err) == (0, "")
    assert out
