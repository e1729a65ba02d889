"""The processes that are measured: `nmk server`, and beside it a bare Waitress application."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

from nmk.core.records import Facts
from nmk.wire.messages import CheckIn
from scripts.benchmarks.crowd import NOWHERE, Crowd, Message
from scripts.benchmarks.http import Volley
from scripts.benchmarks.measure import Spent, spend
from tests.lab import Host, Process, poll

CHECK_IN, JOIN = "/v1/checkin", "/v1/join"
_START_SECONDS = 60
_BATCH = 500  # sockets that are open at a time


@dataclass(frozen=True, slots=True)
class Outcome:
    """Answers, and what they cost the server."""

    answers: list[bytes]
    spent: Spent


class Server:
    """A process on a host that answers POSTs on a port of its own. `start` starts it."""

    def __init__(self, host: Host, port: int, start: Callable[[], Process]) -> None:
        self._host = host
        self.port = port
        self._start = start
        self._run()

    def restart(self) -> None:
        """End the process and start it again."""
        self._process.terminate()
        self._process.wait()
        self._run()

    def post(self, path: str, bodies: Sequence[bytes]) -> Outcome:
        """What the server makes of these requests, no more than a batch."""
        sockets = [self._socket() for _ in bodies]
        volley = Volley(sockets, self.port, path, bodies)
        answers, spent = spend(self.pid, volley.fire)
        return Outcome(answers, spent)

    def _run(self) -> None:
        self._process = self._start()
        poll(self._listens, _START_SECONDS, "server that listens")
        self.pid = find_process(self._host, self._process.command)

    def _socket(self) -> socket.socket:
        made = self._host.socket(socket.SOCK_STREAM)
        made.settimeout(_START_SECONDS)
        return made

    def _listens(self) -> bool:
        assert self._process.running, self._process.output
        with self._socket() as sock:
            return sock.connect_ex(("127.0.0.1", self.port)) == 0


class Controller(Server):
    """`nmk server` on a database with a crowd, each of which has checked in since it started.

    `at` is where the crowd stands.
    """

    def __init__(self, host: Host, port: int, start: Callable[[], Process], crowd: Crowd) -> None:
        super().__init__(host, port, start)
        self.crowd = crowd
        self.at = NOWHERE
        self._seqs: dict[int, int] = {}
        self._viewers = count()  # nobody may ask for a whole view all the time
        self.look()
        everybody = range(len(crowd))
        for first in everybody[::_BATCH]:
            self.check_in(everybody[first : first + _BATCH])

    def look(self) -> dict[str, Any]:
        """The full view of one agent; the whole crowd stands there from now on."""
        [message] = self.crowd.check_ins(NOWHERE, [next(self._viewers) % len(self.crowd)])
        [answer] = self.post(CHECK_IN, [message.body]).answers
        view = message.open(answer)
        self.crowd.epoch = bytes.fromhex(view["epoch"])
        self.at = CheckIn(*view["at"])
        return view

    def check_in(self, numbers: Iterable[int]) -> Spent:
        """These agents check in, and are told that nothing has changed."""
        messages = self.crowd.check_ins(self.at, numbers)
        outcome = self.post(CHECK_IN, [m.body for m in messages])
        unchanged = {"at": [self.at.revision, self.at.commit_id]}
        for message, answer in zip(messages, outcome.answers, strict=True):
            assert message.open(answer) == unchanged
        return outcome.spent

    def ask(self, path: str, message: Message) -> tuple[bytes, Spent]:
        """The answer to one message, still sealed."""
        outcome = self.post(path, [message.body])
        return outcome.answers[0], outcome.spent

    def change(self, number: int, facts: Facts) -> None:
        """One agent reports that its machine has changed; the crowd has not heard of it yet."""
        seq = self._seqs[number] = self._seqs.get(number, 0) + 1
        message = self.crowd.report(self.at, number, seq, facts)
        answer, _ = self.ask(CHECK_IN, message)
        assert message.open(answer)["self"]["seq"] == seq


def find_process(host: Host, command: tuple[str, ...]) -> int:
    """The number, outside, of the process on the host whose command line ends like that."""
    inside = Path(f"/proc/{host.pid}/ns/pid").readlink()
    wanted = b"\0".join(word.encode() for word in (*command[1:], ""))
    for process in Path("/proc").glob("[0-9]*"):
        try:
            found = (process / "cmdline").read_bytes().endswith(wanted)
            if found and (process / "ns/pid").readlink() == inside:
                return int(process.name)
        except OSError:
            continue  # it has just ended, or is none of ours
    raise AssertionError(f"{' '.join(command)} has ended")
