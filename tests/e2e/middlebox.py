"""Stands between machines and a controller, as a proxy or an intruder may; run in a lab's host.

middlebox.py BEHAVIOUR [UPSTREAM-URL]
"""

from __future__ import annotations

import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import repeat
from urllib.error import HTTPError
from urllib.request import Request, urlopen

PORT = 50051
LOGIN_PAGE = b"<html>Please log in to the airport's network</html>"


class Middlebox(BaseHTTPRequestHandler):
    """Answers every request as BEHAVIOUR says."""

    def do_GET(self) -> None:
        self._behave(b"")

    def do_POST(self) -> None:
        self._behave(self.rfile.read(int(self.headers["Content-Length"])))

    def _behave(self, request: bytes) -> None:
        match sys.argv[1]:
            case "pass":
                self._answer(*self._upstream(request))
            case "lose-replies":
                self._upstream(request)
                self.close_connection = True
            case "change-a-byte":
                reply, status = self._upstream(request)
                middle = len(reply) // 2
                changed = bytes([reply[middle] ^ 1])
                self._answer(reply[:middle] + changed + reply[middle + 1 :], status)
            case "reflect":
                self._answer(request)
            case "login-page":
                self._answer(LOGIN_PAGE)
            case "not-found":
                self.send_error(404)
            case "no-http":
                self.wfile.write(b"SSH-2.0-OpenSSH_9.2\r\n")
            case "endless":
                self.send_response(200)
                self.end_headers()
                for chunk in repeat(bytes(65536)):
                    self.wfile.write(chunk)

    def _upstream(self, request: bytes) -> tuple[bytes, int]:
        asked = Request(sys.argv[2] + self.path, request or None)
        try:
            with urlopen(asked) as response:
                return response.read(), response.status
        except HTTPError as error:
            return error.read(), error.code

    def _answer(self, body: bytes, status: int = 200) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


if __name__ == "__main__":
    server = ThreadingHTTPServer(("", PORT), Middlebox)
    print("ready", flush=True)  # noqa: T201
    server.serve_forever()
