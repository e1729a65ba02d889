"""The real controller as a process of its own, and plain HTTP to talk to it."""

from __future__ import annotations

import http.client
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.engines.nest import free_ports
from tests.lab.polling import patient, poll

START_SECONDS = 30
STOP_SECONDS = patient(20)
NMK = [sys.executable, "-m", "nmk.cli.main"]
REPOSITORY = Path(__file__).parents[2]


@dataclass(frozen=True, slots=True)
class Answer:
    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def code(self) -> str:
        """The code of a problem (RFC 9457) whose parts fit together."""
        assert self.headers["content-type"] == "application/problem+json"
        problem = self.json
        assert problem["status"] == self.status
        assert problem["detail"]
        assert problem["hint"]
        return str(problem["code"])


def clean_environment(**more: str) -> dict[str, str]:
    """What tests have set for nmk, with these settings."""
    return {**os.environ, "PYTHONPATH": str(REPOSITORY), **more}


class Server:
    """`nmk server` as a process of its own; it starts and stops as often as a test likes.

    What it says goes to `log_file`. A subclass knows how it is asked.
    """

    def __init__(
        self, command: Sequence[str], log_file: Path, environment: Mapping[str, str]
    ) -> None:
        self._command = command
        self._environment = environment
        self.log_file = log_file
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def log(self) -> str:
        """What it has said so far, in all its lives."""
        return self.log_file.read_text("utf-8", "replace")

    @property
    def pid(self) -> int:
        """The number of the process."""
        assert self.process
        return self.process.pid

    @property
    def ended(self) -> bool:
        """Whether the process is no more."""
        return self.process is None or self.process.poll() is not None

    def answers(self) -> bool:
        """Whether it takes requests."""
        raise NotImplementedError

    def spawn(self, *more: str) -> None:
        """Start it, and leave it to itself. It ends with the process that started it."""
        command = ["setpriv", "--pdeathsig", "KILL", *self._command, *more]
        with self.log_file.open("ab") as log:
            self.process = subprocess.Popen(command, env=self._environment, stdout=log, stderr=log)

    def start(self, *more: str) -> None:
        """Start it, and wait until it answers."""
        self.spawn(*more)
        try:
            poll(lambda: self.ended or self.answers(), START_SECONDS, "controller that answers")
        except TimeoutError:
            self.kill()
            raise
        assert not self.ended, self.log

    def stop(self, number: int = signal.SIGTERM) -> None:
        """Ask it to stop; it must end cleanly."""
        assert self.process
        self.process.send_signal(number)
        assert self.wait() == 0, self.log
        self.process = None

    def kill(self) -> None:
        """End it at once, if it has not ended by itself."""
        if self.process:
            self.process.kill()
            self.wait()

    def wait(self) -> int:
        """Its exit status, once it has ended; the negative number of a signal."""
        assert self.process
        return self.process.wait(STOP_SECONDS)


class Controller(Server):
    """One on a data directory and any database, whose two APIs are asked over TCP."""

    def __init__(self, data: Path, database: str | None = None) -> None:
        self.data = data
        self._database = ("--db", database) if database else ()
        self.port, self.admin_port = free_ports(2)
        log_file = data.parent / f"{data.name}.log"
        super().__init__(self.command(), log_file, clean_environment())

    @property
    def socket(self) -> Path:
        return self.data.absolute() / "admin.sock"

    @property
    def key(self) -> str:
        return (self.data / "admin.key").read_text().strip()

    def command(self, *more: str) -> list[str]:
        return [
            *NMK,
            *("server", "--data-dir", str(self.data)),
            *("--listen", f"127.0.0.1:{self.port}"),
            *("--admin-listen", f"127.0.0.1:{self.admin_port}"),
            *("--log-format", "json", *self._database, *more),
        ]

    def answers(self) -> bool:
        try:
            return self.agent_call("GET", "/healthz").status == 200
        except OSError:
            return False

    def nmk(self, *args: str, **environment: str) -> subprocess.CompletedProcess[str]:
        """Run an admin's command on it."""
        return subprocess.run(
            [*NMK, *args],
            env=clean_environment(NMK_SERVER=f"unix://{self.socket}", **environment),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=patient(60),
        )

    def events(self) -> list[dict[str, Any]]:
        """The lines of its log."""
        return [json.loads(line) for line in self.log.splitlines()]

    def agent_call(
        self,
        method: str,
        path: str,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        """One request to the node API."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=patient(30))
        return call(connection, method, path, body, headers)

    def admin_call(
        self,
        method: str,
        path: str,
        body: object = None,
        headers: Mapping[str, str] | None = None,
        *,
        key: str | None = None,
    ) -> Answer:
        """One request to the admin API over TCP, with its key unless told otherwise."""
        connection = http.client.HTTPConnection("127.0.0.1", self.admin_port, timeout=patient(30))
        bearer = {"Authorization": f"Bearer {self.key if key is None else key}"}
        data = body if isinstance(body, bytes | None) else json.dumps(body).encode()
        return call(connection, method, path, data, {**bearer, **(headers or {})})


def call(
    connection: http.client.HTTPConnection,
    method: str,
    path: str,
    body: bytes | None = None,
    headers: Mapping[str, str] | None = None,
) -> Answer:
    """One request on a connection of its own."""
    try:
        connection.request(method, path, body, dict(headers or {}))
        response = connection.getresponse()
        content = response.read()
    finally:
        connection.close()
    lower = {k.lower(): v for k, v in response.getheaders()}
    return Answer(response.status, lower, content)


@contextmanager
def started(data: Path, database: str | None = None) -> Iterator[Controller]:
    """A controller that runs until the end of the block and then stops as it should."""
    controller = Controller(data, database)
    try:
        controller.start()
        yield controller
        if controller.process:
            controller.stop()
    finally:
        controller.kill()
