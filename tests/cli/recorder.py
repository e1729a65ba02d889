"""A proxy before the admin API that keeps every byte which passes, either way."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


class Recorder:
    """Listens at `listener` and passes everything on to `target`, an address of its own kind."""

    def __init__(self, listener: socket.socket, target: str | tuple[str, int]) -> None:
        self._listener = listener
        self._target = target
        self._lock = threading.Lock()
        self._heard = bytearray()
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()

    @property
    def heard(self) -> bytes:
        """All bytes so far."""
        with self._lock:
            return bytes(self._heard)

    def close(self) -> None:
        """Stop, when all that is under way has passed."""
        self._listener.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join()
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            thread = threading.Thread(target=self._serve, args=(client,))
            self._threads.append(thread)
            thread.start()

    def _serve(self, client: socket.socket) -> None:
        with client, socket.socket(self._listener.family) as server:
            server.connect(self._target)
            back = threading.Thread(target=self._pass_on, args=(server, client))
            back.start()
            self._pass_on(client, server)
            back.join()

    def _pass_on(self, source: socket.socket, sink: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(65536):
                with self._lock:
                    self._heard += data
                sink.sendall(data)
        with suppress(OSError):
            sink.shutdown(socket.SHUT_WR)


@contextmanager
def recorded_socket(path: Path, target: Path) -> Iterator[Recorder]:
    """A Unix socket before another one."""
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(path))
    listener.listen()
    recorder = Recorder(listener, str(target))
    try:
        yield recorder
    finally:
        recorder.close()


@contextmanager
def recorded_port(target: int) -> Iterator[tuple[int, Recorder]]:
    """A TCP port of the loopback before another one."""
    listener = socket.create_server(("127.0.0.1", 0))
    recorder = Recorder(listener, ("127.0.0.1", target))
    try:
        yield listener.getsockname()[1], recorder
    finally:
        recorder.close()
