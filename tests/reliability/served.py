"""A controller on the loopback address, and agents of it that have no interface.

`nmk server` runs as it is, as a process of its own; what stands in for many machines is the
agent's own client, which speaks the real control channel.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from base64 import b64encode
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from secrets import token_bytes
from typing import TYPE_CHECKING, Any

import nmk
from nmk.agent.api import Answer, NodeApi
from nmk.cli.api import AdminApi
from nmk.core.nodes import FURTHEST_AHEAD
from nmk.core.records import Facts, JoinRequest
from nmk.errors import BadReply, Unreachable
from nmk.wire.envelope import NO_EPOCH, Identity
from nmk.wire.messages import CheckIn
from nmk.wire.token import Token, parse_token
from tests.lab import patient, poll

if TYPE_CHECKING:
    from typing_extensions import Self

SOURCE = Path(nmk.__file__).parents[1]
MORTAL = ("setpriv", "--pdeathsig", "KILL")  # ends with the process that started it
NMK = (sys.executable, "-m", "nmk.cli.main")


class Served:
    """`nmk server` on a port of 127.0.0.1, with everything it keeps below one directory.

    A context manager. `prefix` is put before the command, `program` in the place of `nmk`.
    """

    def __init__(
        self, directory: Path, prefix: Sequence[str] = (), program: Sequence[str] = NMK
    ) -> None:
        self.data = directory / "data"
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self._log = directory / "server.log"
        self._command = [*MORTAL, *prefix, *program, "server", "--data-dir", str(self.data)]
        self._command += ["--listen", f"127.0.0.1:{self.port}", "--admin-listen", "off"]
        self._environment = {**os.environ, "NMK_CONFIG_DIR": str(directory / "etc")}
        self._process: subprocess.Popen[bytes] | None = None
        self._admin = AdminApi(f"unix://{self.data / 'admin.sock'}", None)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    @property
    def pid(self) -> int:
        """The number of the process."""
        assert self._process
        return self._process.pid

    @property
    def log(self) -> str:
        """What it has said so far, in all its lives."""
        return self._log.read_text("utf-8", "replace")

    def start(self) -> None:
        """Start it, and wait until it answers."""
        self.spawn()
        try:
            poll(lambda: self.ended or self.answers(), 30, "controller")
        except TimeoutError:
            self.kill()
            raise
        assert not self.ended, self.log

    def spawn(self) -> None:
        """Start it, and leave it to itself."""
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                self._command, cwd=SOURCE, env=self._environment, stdout=log, stderr=log
            )

    def stop(self) -> None:
        """Stop it as systemd would; it must end cleanly."""
        assert self._process
        self._process.terminate()
        assert self._process.wait(patient(20)) == 0, self.log

    def kill(self) -> None:
        """End it at once, if it has not ended by itself."""
        if self._process:
            self._process.kill()
            self.wait()

    def wait(self, seconds: float = patient(20)) -> int:
        """Its exit status, once it has ended; the negative number of a signal."""
        assert self._process
        return self._process.wait(seconds)

    @property
    def ended(self) -> bool:
        """Whether the process is no more."""
        assert self._process
        return self._process.poll() is not None

    def answers(self) -> bool:
        """Whether it takes requests."""
        return self._admin.is_healthy()

    def call(self, method: str, path: str, body: dict[str, Any] | None = None, **how: Any) -> Any:
        """A request to the admin API, below /v1. Raises what it answers."""
        if method == "DELETE":
            return self._admin.delete(path, **how)
        return self._admin.call(method, path, body, **how)

    def call_list(self, path: str) -> list[dict[str, Any]]:
        """What there is of something. Raises what the admin API answers."""
        return self._admin.call_list(path)

    def token(self, uses: int | None = 1) -> Token:
        """A new access key's token."""
        made = self.call("POST", "/networks/home/keys", {"uses": uses})
        return parse_token(made["token"])

    def nodes(self) -> dict[str, dict[str, Any]]:
        """The nodes of `home`, by name."""
        return {n["name"]: n for n in self.call_list("/networks/home/nodes")}

    def uses(self, token: Token) -> int:
        """How often a key was used."""
        uses: int = self.call("GET", f"/networks/home/keys/{token.key_id}")["uses"]
        return uses

    def memory(self) -> int:
        """The bytes of memory that the process holds."""
        status = Path(f"/proc/{self.pid}/status").read_text()
        [line] = [line for line in status.splitlines() if line.startswith("VmRSS:")]
        return int(line.split()[1]) * 1024

    def descriptors(self) -> int:
        """How many files and sockets it has open."""
        return len(os.listdir(f"/proc/{self.pid}/fd"))  # noqa: PTH208  # counts, keeps nothing


class Agent:
    """One machine's end of the control channel. `name` is its host's."""

    def __init__(self, served: Served, token: Token, name: str) -> None:
        self.identity = Identity.generate()
        self.name = name
        self.facts = Facts(b64encode(token_bytes(32)).decode(), 51820, (), 60, None)
        self.at: tuple[bytes, int, str] = (NO_EPOCH, 0, "")
        self.token = token
        self._api = NodeApi(
            (served.url,), token.controller_key, self.identity, token.network, "the token"
        )

    def join(self) -> Mapping[str, Any]:
        """Join: the view. Raises what the controller answers under seal."""
        token = self.token
        wish = JoinRequest("", token.key_id, token.secret, None, self.name, None, self.facts)
        return self._take(self._api.join(wish))

    def check_in(self, facts: Facts | None = None, seq: int = 0) -> Mapping[str, Any]:
        """Check in: what is new. Raises what the controller answers."""
        epoch, revision, commit_id = self.at
        return self._take(self._api.check_in(epoch, CheckIn(revision, commit_id, seq, facts)))

    def report(self, port: int, seq: int) -> Mapping[str, Any]:
        """Check in with the news that WireGuard listens on another port."""
        return self.check_in(replace(self.facts, listen_port=port), seq)

    def leave(self) -> None:
        """Leave the network."""
        self._api.leave(self.at[0], FURTHEST_AHEAD).result()

    def try_join(self) -> bool:
        """Join; whether the controller lived to answer."""
        try:
            self.join()
        except (Unreachable, BadReply):
            return False
        return True

    def _take(self, answer: Answer) -> Mapping[str, Any]:
        view = answer.result().head
        if "epoch" in view:
            revision, commit_id = view["at"]
            self.at = (bytes.fromhex(view["epoch"]), revision, commit_id)
        return view


def free_port() -> int:
    """A TCP port of the loopback address that nobody uses."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
