"""A controller on the loopback address, and agents of it that have no interface.

`nmk server` runs as it is, as a process of its own; what stands in for many machines is the
agent's own client, which speaks the real control channel.
"""

from __future__ import annotations

import math
import os
from base64 import b64encode
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from secrets import token_bytes
from typing import TYPE_CHECKING, Any

from nmk.agent.api import Answer, NodeApi
from nmk.cli.api import AdminApi
from nmk.core.nodes import FURTHEST_AHEAD
from nmk.core.records import Facts, JoinRequest
from nmk.errors import BadReply, Unreachable
from nmk.wire.envelope import NO_EPOCH, Identity
from nmk.wire.messages import CheckIn
from nmk.wire.token import Token, parse_token
from tests.engines.nest import free_ports
from tests.server.process import NMK, Server, clean_environment

if TYPE_CHECKING:
    from typing_extensions import Self


class Served(Server):
    """One on a port of 127.0.0.1, with everything it keeps below one directory.

    A context manager. `prefix` is put before the command, `program` in the place of `nmk`.
    """

    def __init__(
        self, directory: Path, prefix: Sequence[str] = (), program: Sequence[str] = NMK
    ) -> None:
        self.data = directory / "data"
        [self.port] = free_ports(1)
        self.url = f"http://127.0.0.1:{self.port}"
        self._admin = AdminApi(f"unix://{self.data / 'admin.sock'}", None)
        command = [*prefix, *program, "server", "--data-dir", str(self.data)]
        command += ["--listen", f"127.0.0.1:{self.port}", "--admin-listen", "off"]
        environment = clean_environment(NMK_CONFIG_DIR=str(directory / "etc"))
        super().__init__(command, directory / "server.log", environment)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

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


@contextmanager
def serving_home(directory: Path, *how: Sequence[str]) -> Iterator[Served]:
    """One that has the network `home`."""
    with Served(directory, *how) as served:
        served.call("POST", "/networks", {"name": "home", "cidrs": ["10.77.0.0/16"]})
        yield served


class Agent:
    """One machine's end of the control channel. `name` is its host's."""

    def __init__(self, served: Served, token: Token, name: str) -> None:
        self.identity = Identity.generate()
        self.name = name
        self.facts = Facts(b64encode(token_bytes(32)).decode(), 51820, (), 60, None)
        self.at: tuple[bytes, int, str] = (NO_EPOCH, 0, "")
        self.token = token
        whose = (token.controller_key, self.identity, token.network, "the token")
        self._api = NodeApi((served.url,), *whose, math.inf)  # all that it asks in its life

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
