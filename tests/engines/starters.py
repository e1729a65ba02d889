"""Real databases for the tests: PostgreSQL as Debian packages it, and three members of rqlite."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPConnection, HTTPException
from itertools import count
from pathlib import Path
from typing import Any
from urllib.parse import quote

from tests.engines.nest import Nest, free_ports, nest
from tests.engines.rqlite_binary import rqlited
from tests.lab.polling import patient

DEADLINE_SECONDS = patient(60)
PAUSE_SECONDS = 0.05
PASSWORD = "Pa55-w%rd"


class Postgres:
    """A PostgreSQL server on the loopback."""

    def __init__(self, home: Nest) -> None:
        self._home = home
        self._bin = _newest_postgres()
        self._data = home.directory / "data"
        self._numbers = count(1)
        [self.port] = free_ports(1)
        secret = home.directory / "password"
        secret.write_text(PASSWORD)
        shutil.chown(secret, self._data.parent.owner())
        initdb = ["initdb", "-U", "admin", "-A", "scram-sha-256", "--pwfile", str(secret)]
        initdb += ["--encoding=UTF8", "--locale=C", "--no-sync", "-D", str(self._data)]
        home.run([str(self._bin / initdb[0]), *initdb[1:]])
        self.start()

    def start(self) -> None:
        """Start it, and wait until it takes connections."""
        # Tests cut its power never, so nothing needs to reach the disk.
        settings = {"port": self.port, "listen_addresses": "127.0.0.1", "fsync": "off"}
        settings |= {"unix_socket_directories": self._home.directory, "max_connections": 60}
        words = [w for name, value in settings.items() for w in ("-c", f"{name}={value}")]
        self._server = self._home.start(
            "postgres",
            [str(self._bin / "postgres"), "-D", str(self._data), *words],
            end=signal.SIGQUIT,
        )
        wait_until(self._is_ready, "PostgreSQL", lambda: self._home.log("postgres"))

    def crash(self) -> None:
        """End it without a goodbye to anybody; the next start recovers from its log."""
        self._server.send_signal(signal.SIGQUIT)
        self._server.wait()

    def new_database(self) -> str:
        """The URL of a fresh, empty database: a user with a schema, made faster than a real one."""
        user = f"test{next(self._numbers)}"
        self.sql(f"CREATE ROLE {user} LOGIN PASSWORD '{PASSWORD}'")
        self.sql(f"CREATE SCHEMA AUTHORIZATION {user}")
        return f"postgresql://{user}:{quote(PASSWORD)}@127.0.0.1:{self.port}/postgres"

    def sql(self, statement: str, database: str = "postgres") -> None:
        """Run a statement as the server's administrator."""
        psql = [str(self._bin / "psql"), "-qX", "-h", "127.0.0.1", "-p", str(self.port)]
        self._home.run([*psql, "-U", "admin", "-c", statement, database], {"PGPASSWORD": PASSWORD})

    def _is_ready(self) -> bool:
        command = [str(self._bin / "pg_isready"), "-q", "-h", "127.0.0.1", "-p", str(self.port)]
        return subprocess.run(command, check=False).returncode == 0


@contextmanager
def postgres_server() -> Iterator[Postgres]:
    """A PostgreSQL server of one's own, gone afterwards. It refuses to run as root."""
    with nest("postgres", rootless=True) as home:
        yield Postgres(home)


class Rqlite:
    """A cluster of three."""

    def __init__(self, home: Nest) -> None:
        self._home = home
        self._binary = str(rqlited())
        self.ports = free_ports(3)
        self._raft = free_ports(3)
        self._members: dict[int, subprocess.Popen[bytes]] = {}
        for port in self.ports:
            self.start(port)
        self.wait()

    @property
    def url(self) -> str:
        """The URL with all members."""
        return "rqlite://" + ",".join(f"127.0.0.1:{port}" for port in self.ports)

    def start(self, port: int) -> None:
        """Start a member; it finds the others."""
        number = self.ports.index(port)
        raft = [f"127.0.0.1:{p}" for p in self._raft]
        options = ["-http-addr", f"127.0.0.1:{port}", "-raft-addr", raft[number]]
        options += ["-bootstrap-expect", "3", "-join", ",".join(raft), "-fk"]
        name = f"rqlite{number}"
        command = [self._binary, "-node-id", name, *options, str(self._home.directory / name)]
        self._members[port] = self._home.start(name, command)

    def kill(self, port: int) -> None:
        """End a member by SIGKILL."""
        self._members[port].kill()
        self._members[port].wait()

    def freeze(self, port: int) -> None:
        """Let a member do nothing, while its kernel goes on."""
        self._members[port].send_signal(signal.SIGSTOP)

    def thaw(self, port: int) -> None:
        """Let it go on."""
        self._members[port].send_signal(signal.SIGCONT)

    def heal(self) -> None:
        """Start the members that are not running, and wait until all have the same leader."""
        for port, member in self._members.items():
            if member.poll() is not None:
                self.start(port)
        self.wait()

    def wait(self) -> None:
        """Wait until all members that are running know the same leader."""
        wait_until(self._is_whole, "rqlite cluster", lambda: self._home.log("rqlite0"))

    def leader(self) -> int:
        """The port of the member that leads."""
        wait_until(lambda: bool(self._leaders()), "leader", lambda: self._home.log("rqlite0"))
        return self._leaders()[0]

    def clear(self) -> None:
        """Drop all tables."""
        listed = self._get(self.leader(), "/db/query?level=strong&q=" + LIST_TABLES)
        names = [name for (name,) in listed["results"][0].get("values", [])]
        if not names:
            return
        drops = [f'DROP TABLE "{name}"' for name in reversed(names)]
        connection = HTTPConnection("127.0.0.1", self.leader(), timeout=patient(10))
        connection.request("POST", "/db/execute?transaction", json.dumps(drops))
        with connection.getresponse() as answer:
            reply = json.loads(answer.read())
        connection.close()
        assert not any("error" in result for result in reply["results"]), reply

    def _leaders(self) -> list[int]:
        """Every running member's idea of who leads, where they have one."""
        nodes = [
            node
            for port, member in self._members.items()
            if member.poll() is None
            for node in self._get(port, "/nodes?ver=2&timeout=1s").get("nodes", [])
        ]
        found = [int(n["api_addr"].rpartition(":")[2]) for n in nodes if n.get("leader")]
        return [port for port in found if self._members[port].poll() is None]

    def _is_whole(self) -> bool:
        running = sum(member.poll() is None for member in self._members.values())
        leaders = self._leaders()
        ready = all(self._is_ready(p) for p, m in self._members.items() if m.poll() is None)
        return ready and len(leaders) == running and len(set(leaders)) == 1

    def _is_ready(self, port: int) -> bool:
        return bool(self._get(port, "/status").get("store", {}).get("ready"))

    def _get(self, port: int, path: str) -> dict[str, Any]:
        connection = HTTPConnection("127.0.0.1", port, timeout=patient(5))
        try:
            connection.request("GET", path)
            with connection.getresponse() as answer:
                found: dict[str, Any] = json.loads(answer.read())
        except (OSError, HTTPException, ValueError):
            return {}
        else:
            return found
        finally:
            connection.close()


LIST_TABLES = "SELECT%20name%20FROM%20sqlite_master%20WHERE%20type='table'"


@contextmanager
def rqlite_cluster() -> Iterator[Rqlite]:
    """A cluster of one's own, gone afterwards."""
    with nest("rqlite") as home:
        yield Rqlite(home)


def wait_until(condition: Any, what: str, log: Any) -> None:
    """Poll a condition. Raises TimeoutError with the log's end."""
    deadline = time.monotonic() + DEADLINE_SECONDS
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"no {what} within {DEADLINE_SECONDS:g} s; {log()[-2000:]}")
        time.sleep(PAUSE_SECONDS)


def _newest_postgres() -> Path:
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda p: int(p.parent.name))
    assert found, "apt-get install postgresql"
    return found[-1]
