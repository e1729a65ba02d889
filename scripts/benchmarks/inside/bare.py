"""A bare Waitress application: reads the body of a request and answers with SIZE bytes.

Runs on a host of the lab, with the packages of the file `nmk`: `bare.py PORT SIZE`.
"""

import sys
from collections.abc import Callable, Iterable
from typing import Any

import waitress


def serve(port: int, size: int) -> None:
    """Serve until killed."""
    answer = bytes(size)

    def app(environ: dict[str, Any], start_response: Callable[..., object]) -> Iterable[bytes]:
        environ["wsgi.input"].read(int(environ["CONTENT_LENGTH"]))
        headers = [("Content-Type", "application/octet-stream"), ("Content-Length", str(size))]
        start_response("200 OK", headers)
        return [answer]

    waitress.serve(app, host="127.0.0.1", port=port, ident="nmk")


if __name__ == "__main__":
    serve(int(sys.argv[1]), int(sys.argv[2]))
