"""What wg(8) and wg-quick(8) take of a hub's file is taken, and means the same."""

from __future__ import annotations

import re

import pytest
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st

from nmk.core.quick import InUse, parse_quick
from nmk.core.tunnel import NO_KEY
from nmk.errors import BadInput
from nmk.system.dump import parse_dump
from tests.core.made import key32
from tests.lab import Host, Lab, poll

FILE = "/root/wg0.conf"
SECRETS = [key32(n, kind=9) for n in range(2)]
STRIP = f"wg-quick strip {FILE} >/root/stripped && wg setconf wg0 /root/stripped"
# By the name that a refused line is known by: what a key of the kind may have.
VALUES = {
    "[Interface]": {
        "PrivateKey": [*SECRETS, "abc", key32(1)[:-2] + "B="],
        "ListenPort": ["51820", "0", "4 7 1 1", "065", "auto", "-5"],
        "FwMark": ["off", "0", "0x10", "0XfF", "010", "08", "4294967295", "4294967296", "0xg", ""],
        "Address": ["10.8.0.1/24, fd00:8::1/64", "10.8.0.1 fd00::1/64", "10.8.0.1/24,"],
        "SaveConfig": ["true", "FALSE", "yes", ""],
        "MTU": ["1420", ""],
        "DNS": ["1.1.1.1, example.net", ""],
        "Table": ["off", "auto", "123"],
        "PostUp": ["iptables -A FORWARD -i %i -j ACCEPT; x = y", ""],
        "AllowedIPs": ["10.8.0.2"],
        "Jc": ["4"],
    },
    "[Peer]": {
        "PublicKey": [*(key32(n) for n in range(3)), "abc"],
        "PresharedKey": [*(key32(n, kind=7) for n in range(2)), NO_KEY, "abc", ""],
        "AllowedIPs": [
            *("10.8.0.2", "10.8.0.2/32, fd00:8::2", "10.8.0.3/24", "192.168.7.9/24", "0.0.0.0/0"),
            *("::/0,10.8.0.4/032", "10.8.0.2,", "10.8.0.02", "::ffff:10.8.0.9", "10.8.0.5/33", ""),
            *("10.8.0.2/-0", "10.8.0.2/", "fe80::1%lo", "10. 8.0.6", "10.8.0.2 10.8.0.3", "::1/0"),
        ],
        "Endpoint": [
            "192.0.2.1:7",
            "[2001:db8::1]:7",
            "::1:5",
            "[::1]5",
            "192.0.2.1:",
            "192.0.2.1",
        ],
        "PersistentKeepalive": ["25", "off", "OFF", "025", "65535", "65536", "-0", ""],
        "MTU": ["1420"],
    },
}
CASES = st.sampled_from(["", "", "lower", "upper"])
SPACES = st.sampled_from(["", "", "", " ", "\t", "\r", " \f"])
COMMENTS = st.sampled_from(["", "", "", "# = [Peer] Küche", "#PublicKey=x"])


@st.composite
def sections(draw: st.DrawFn, kind: str) -> list[str]:
    """A section whose settings mostly are good ones, written in any way."""
    names = draw(st.lists(st.sampled_from([*VALUES[kind]]), max_size=4))
    if kind == "[Peer]" and draw(st.sampled_from([True, True, True, True, False])):
        names.insert(0, "PublicKey")

    def cased(text: str) -> str:
        return {"lower": text.lower(), "upper": text.upper()}.get(draw(CASES), text)

    lines = [cased(kind)]
    for name in names:
        values = VALUES[kind][name]
        value = draw(st.sampled_from([*values[:2], *values[:2], *values]))
        lines.append(f"{cased(name)}{draw(SPACES)}={draw(SPACES)}{value}")
    return [f"{draw(SPACES)}{line}{draw(SPACES)}{draw(COMMENTS)}" for line in lines]


@st.composite
def files(draw: st.DrawFn) -> str:
    lines = [*draw(sections("[Interface]")), f"PrivateKey={SECRETS[0]}", "Address=10.8.0.1/24"]
    for kind in draw(st.lists(st.sampled_from(["[Peer]", "[Peer]", "[Interface]"]), max_size=4)):
        lines += draw(sections(kind))
    if draw(st.sampled_from([True, False, False, False, False, False])):
        junk = draw(st.sampled_from(["junk", "= 4", "[]", "#"]))
        lines.insert(draw(st.integers(0, len(lines))), junk)
    return "\n".join([*lines, ""])


@pytest.fixture
def hub(lab: Lab) -> Host:
    host = lab.host("hub")
    host.run("wireguard-go", "wg0")
    poll(lambda: "wg0" in host.run("wg", "show", "interfaces").stdout, 10, "wg0")
    return host


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(text=files())
def test_what_wg_takes_is_taken_and_what_it_refuses_is_refused_by_line(
    hub: Host, text: str
) -> None:
    hub.write(FILE, text, mode=0o600)
    done = hub.run("sh", "-c", f"{STRIP} && wg show wg0 dump", check=False)
    event(f"exit status {done.returncode}")
    if done.returncode:
        with pytest.raises(BadInput, match=r"\Aline [0-9]+: "):
            parse_quick(text, InUse(SECRETS[0], 1))
        return
    live = parse_dump(done.stdout)
    config = parse_quick(text, InUse(live.private_key, live.listen_port))
    assert config.private_key == live.private_key
    assert {peer.public_key: peer.preshared_key or "" for peer in config.peers} == {
        key: found.peer.preshared_key for key, found in live.peers.items()
    }
    assert {p.public_key: {str(cidr) for _, cidr in p.ranges} for p in config.peers} == {
        key: set(found.peer.allowed_ips) for key, found in live.peers.items()
    }
    if re.search(r"(?im)^\s*listenport", text):
        assert config.listen_port == live.listen_port
