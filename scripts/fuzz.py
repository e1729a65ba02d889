"""Coverage-guided fuzzing of the parsers, each in a process of its own."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory, TemporaryFile

import atheris

with atheris.instrument_imports(include=["nmk"]):
    from nmk.agent.heads import field_of
    from nmk.agent.history import parse_entry
    from nmk.agent.membership import decode
    from nmk.core.mesh import Mesh
    from nmk.core.peers import merge_view
    from nmk.core.quick import parse_quick
    from nmk.core.records import Facts, JoinRequest, Network, Node
    from nmk.core.view import pack, pack_view
    from nmk.errors import NmkError
    from nmk.system.dump import parse_dump, parse_link
    from nmk.wire import envelope, messages
    from nmk.wire.token import Token, encode_token, parse_token

RUNS = 200_000
ME = envelope.Identity.from_secret(bytes(range(32)))
HEADER, _ = envelope.seal_request(
    envelope.agent_keys(ME, ME.public), envelope.Kind.CHECK_IN, ME.public, bytes(8), "home", b"{}"
)


def text(data: bytes) -> str:
    """Any text; bytes that are none of UTF-8 stand for themselves."""
    return data.decode("utf-8", "surrogateescape")


def view(data: bytes) -> None:
    """A reply as an agent takes it in."""
    merge_view(None, messages.parse_reply(data), "home")


TARGETS: dict[str, Callable[[bytes], object]] = {
    "token": lambda data: parse_token("nmk1." + text(data)),
    "request": lambda data: envelope.parse_request(data, envelope.Kind.CHECK_IN),
    "sealed": lambda data: envelope.open_sealed_to(ME, data),
    "packed": lambda data: envelope.unpack(data, 1 << 20),
    "reply": lambda data: envelope.open_reply(
        envelope.agent_keys(ME, ME.public), HEADER, envelope.MAGIC + data
    ),
    "join": lambda data: messages.parse_join(data, ME.public),
    "check-in": messages.parse_check_in,
    "leave": messages.parse_leave,
    "error": messages.parse_error,
    "view": view,
    "state": lambda data: decode(data, "home", "home.json"),
    "salvage": lambda data: [field_of(data, name) for name in ("interface", "order", "found")],
    "log": lambda data: parse_entry(text(data)),
    "dump": lambda data: parse_dump(text(data)),
    "link": lambda data: parse_link(text(data), "nmk-home"),
    "quick": lambda data: parse_quick(text(data)),
}


FACTS = Facts(base64.b64encode(bytes(range(32))).decode(), 51821, ("192.168.1.7/24",), 60)
JOIN = JoinRequest("", "k1", bytes(32), "web", "web", "10.77.0.9", FACTS)
NETWORK = Network("home", "10.77.0.0/24", "fd77::/64", revision=1)
NODE = Node("i", "home", "web", "10.77.0.1", "fd77::1", FACTS, ("203.0.113.7",), revision=2)
MESH = Mesh("home")
PEER = replace(NODE, identity="j", name="db", address4="10.77.0.2", address6="fd77::2")
MESH.apply(2, "c2", 0, [NETWORK, NODE, PEER])
REPLY = envelope.unpack(pack_view(MESH, NODE, "00" * 8, ("", 0, "")), 1 << 20)
TOKEN = Token(("http://192.0.2.1:50051",), ME.public, "home", "k1", bytes(32))
KEY = FACTS.wg_key
STATE = json.dumps(
    {
        "version": 1, "network": "home", "remote_name": "home", "order": 0, "phase": "joining",
        "down": False, "urls": ["http://192.0.2.1:50051"], "controller_key": KEY, "identity": KEY,
        "private_key": "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHl8=", "interface": "nmk-home",
        "listen_port": 51821, "wishes": dict.fromkeys(("name", "address", "endpoint",
        "listen_port")), "seq": 0, "reported": None, "endpoints": {}, "known": None,
    }
).encode()  # fmt: skip
SEEDS: dict[str, bytes] = {
    "token": encode_token(TOKEN)[5:].encode(),
    "packed": pack(bytes(1000)),
    "join": messages.encode_join(JOIN),
    "check-in": messages.encode_check_in(messages.CheckIn(7, "c7", 3, FACTS)),
    "error": messages.encode_error(NmkError("wrong")),
    "view": REPLY,
    "salvage": b'{"order":0,"private_key":"' + KEY.encode() + b'","interface":"nmk-home"',
    "log": b'{"at":1,"cause":"up","revision":7,"changes":["x"],"more":0,"failed":null}',
    "state": STATE,
    "dump": (
        f"{KEY}\t{KEY}\t51821\toff\n{KEY}\t(none)\t192.0.2.7:51821\t10.77.0.2/32\t0\t0\t0\toff\n"
    ).encode(),
    "link": json.dumps(
        [
            {
                "ifname": "nmk-home",
                "flags": ["UP"],
                "mtu": 1420,
                "addr_info": [{"local": "10.77.0.1", "prefixlen": 24, "scope": "global"}],
            }
        ]
    ).encode(),
    "quick": (
        f"[Interface]\nPrivateKey = {KEY}\nListenPort = 51820\nAddress = 10.8.0.1/24\n"
        f"Address = fd00:8::1/64\nPostUp = true\n\n# Client: Anna's phone (3f2c)\n"
        f"[Peer]\nPublicKey = {KEY}\nPresharedKey = {KEY}\n"
        f"AllowedIPs = 10.8.0.2/32, 192.168.7.0/24\n"
    ).encode(),
}


def fuzz(target: str, runs: int, corpus: str) -> None:
    """Run one target in this process. Any exception but ours is a crash."""
    (Path(corpus) / "seed").write_bytes(SEEDS.get(target, b"{}"))

    def one_input(data: bytes) -> None:
        with contextlib.suppress(NmkError):
            TARGETS[target](data)

    atheris.Setup(
        [target, corpus, f"-runs={runs}", "-max_len=2048", "-verbosity=0", "-rss_limit_mb=512"],
        one_input,
    )
    atheris.Fuzz()


def fuzz_apart(target: str, runs: int) -> tuple[int, str]:
    """Run one target in a process of its own; its exit code, and what it wrote.

    A fork, as it takes longer to prepare the modules than to run most targets.
    """
    with TemporaryFile() as told, TemporaryDirectory() as corpus:
        child = os.fork()
        if not child:
            for output in (1, 2):
                os.dup2(told.fileno(), output)
            fuzz(target, runs, corpus)
            os._exit(0)
        _, status = os.waitpid(child, 0)
        told.seek(0)
        return os.waitstatus_to_exitcode(status), told.read().decode(errors="replace")


def main(words: list[str]) -> int:
    """All targets, or those named; 1 when one of them crashed."""
    runs = int(words[0]) if words and words[0].isdecimal() else RUNS
    chosen = [w for w in words if w in TARGETS] or list(TARGETS)
    failed = []
    for target in chosen:
        exit_code, told = fuzz_apart(target, runs)
        print(f"{'CRASH' if exit_code else 'ok':8}{target}: {runs} inputs", flush=True)
        if exit_code:
            failed.append(target)
            print(told, flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
