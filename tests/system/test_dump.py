from __future__ import annotations

import base64
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nmk.core.tunnel import MARK, TunnelPeer
from nmk.errors import CommandFailed
from nmk.system.dump import Dump, Link, LivePeer, parse_dump, parse_link
from nmk.system.keys import generate_private_key, public_key

keys = st.binary(min_size=32, max_size=32).filter(any).map(lambda b: base64.b64encode(b).decode())
ranges = st.one_of(
    st.ip_addresses(v=4).map(lambda a: f"{a}/32"), st.ip_addresses(v=6).map(lambda a: f"{a}/128")
)
counts = st.integers(0, 2**63)


@st.composite
def live_peers(draw: st.DrawFn) -> LivePeer:
    port = draw(st.integers(1, 65535))
    return LivePeer(
        peer=TunnelPeer(
            key=draw(keys),
            allowed_ips=tuple(sorted(draw(st.sets(ranges, max_size=3)))),
            keepalive=draw(st.integers(0, 65535)),
            endpoint=draw(st.sampled_from([None, f"192.0.2.1:{port}", f"[fe80::1%eth0]:{port}"])),
            preshared_key=draw(st.just("") | keys),
        ),
        handshake=draw(counts),
        received=draw(counts),
        sent=draw(counts),
    )


def render(private: str, public: str, port: int, peers: list[LivePeer], mark: int = 0) -> str:
    """What `wg show INTERFACE dump` prints."""
    shown = f"{mark:#x}" if mark else "off"
    lines = ["\t".join([private or "(none)", public or "(none)", str(port), shown])]
    lines += [
        "\t".join(
            [
                live.peer.key,
                live.peer.preshared_key or "(none)",
                live.peer.endpoint or "(none)",
                ",".join(live.peer.allowed_ips) or "(none)",
                str(live.handshake),
                str(live.received),
                str(live.sent),
                str(live.peer.keepalive or "off"),
            ]
        )
        for live in peers
    ]
    return "\n".join(lines) + "\n"


@given(
    port=st.integers(0, 65535),
    peers=st.lists(live_peers(), max_size=4),
    mark=st.sampled_from([0, 1, MARK, 2**32 - 1]),
)
def test_a_dump_is_read_as_it_was_written(port: int, peers: list[LivePeer], mark: int) -> None:
    private = generate_private_key()
    text = render(private, public_key(private), port, peers, mark)
    assert parse_dump(text) == Dump(
        private, public_key(private), port, {p.peer.key: p for p in peers}, mark
    )


def test_a_fresh_interface_has_no_keys() -> None:
    assert parse_dump("(none)\t(none)\t59710\toff\n") == Dump("", "", 59710, {})


@given(st.text())
def test_anything_else_is_refused(text: str) -> None:
    with pytest.raises(CommandFailed):
        parse_dump(text)


@given(st.data())
def test_a_damaged_dump_is_refused_or_read(data: st.DataObject) -> None:
    text = render("", "", 1, data.draw(st.lists(live_peers(), min_size=1, max_size=2)))
    at = data.draw(st.integers(0, len(text)))
    damaged = text[:at] + data.draw(st.text(max_size=4)) + text[at + data.draw(st.integers(0, 4)) :]
    try:
        parse_dump(damaged)
    except CommandFailed:
        return


def test_an_error_never_quotes_a_key() -> None:
    private = generate_private_key()
    peer = f"{public_key(private)}\t{private}\t(none)\t(none)\t0\t0\t0\tnever"
    for text in (
        f"{private}\tno",
        f"{private}\t(none)\tport\toff",
        f"{private}\t(none)\t1\tmark",
        f"(none)\t(none)\t1\toff\n{peer}",
    ):
        with pytest.raises(CommandFailed) as raised:
            parse_dump(text)
        assert private not in raised.value.message


def test_a_link() -> None:
    text = json.dumps(
        [
            {},
            {
                "ifname": "nmk-home",
                "flags": ["POINTOPOINT", "NOARP", "UP", "LOWER_UP"],
                "mtu": 1420,
                "addr_info": [
                    {"family": "inet", "local": "10.1.0.7", "prefixlen": 16},
                    {"family": "inet6", "local": "fd00::7", "prefixlen": 64},
                ],
            },
        ]
    )
    assert parse_link(text, "nmk-home") == Link(1420, True, ("10.1.0.7/16", "fd00::7/64"))


@given(st.one_of(st.text(), st.recursive(st.none() | st.integers(), st.lists).map(json.dumps)))
def test_no_link(text: str) -> None:
    with pytest.raises(CommandFailed):
        parse_link(text, "nmk-home")
