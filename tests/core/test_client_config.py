"""An ext client's file says what the controller told, and not a line more."""

from __future__ import annotations

import contextlib
from itertools import product
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nmk.core.client_config import ClientConfig, parse_client_config, render_client_config
from nmk.errors import BadReply
from tests.core.machine import parse_config
from tests.core.made import key32

KEY = key32(1)
PRIVATE = key32(2)
SETTINGS = {
    "Interface": {"PrivateKey", "Address", "MTU"},
    "Peer": {"PublicKey", "AllowedIPs", "Endpoint", "PersistentKeepalive"},
}


def told(**changes: Any) -> dict[str, Any]:
    """What the admin API answers."""
    return {
        "addresses": ["10.20.0.201", "fd20::c1"],
        "gateway_key": KEY,
        "endpoint": "vpn.example.org:51821",
        "ranges": ["10.20.0.0/24", "fd20::/64", "192.168.7.0/24"],
        "mtu": 1420,
        "keepalive": 25,
        **changes,
    }


def read(text: str) -> dict[str, dict[str, str]]:
    """The file as wg-quick(8) takes it; refuses any line that nmk does not write."""
    lines = [line for line in text.splitlines() if not line.startswith("# PrivateKey = ")]
    sections = parse_config("\n".join(lines))
    assert [s["section"] for s in sections] == ["Interface", "Peer"]
    for section in sections:
        assert section.keys() - {"section"} <= SETTINGS[section["section"]]
    return {s["section"]: s for s in sections}


def file_of(data: dict[str, Any], private_key: str | None = PRIVATE) -> dict[str, dict[str, str]]:
    return read(render_client_config(parse_client_config(data), private_key))


def test_the_file_says_what_the_controller_told() -> None:
    assert file_of(told()) == {
        "Interface": {
            "section": "Interface",
            "PrivateKey": PRIVATE,
            "Address": "10.20.0.201/32, fd20::c1/128",
            "MTU": "1420",
        },
        "Peer": {
            "section": "Peer",
            "PublicKey": KEY,
            "AllowedIPs": "10.20.0.0/24, fd20::/64, 192.168.7.0/24",
            "Endpoint": "vpn.example.org:51821",
            "PersistentKeepalive": "25",
        },
    }


def test_a_device_that_made_its_own_key_puts_it_in_itself() -> None:
    text = render_client_config(parse_client_config(told()), None)
    assert "PrivateKey" not in read(text)["Interface"]
    assert "\n# PrivateKey = " in text


def test_a_network_without_keepalives_asks_for_none() -> None:
    assert "PersistentKeepalive" not in file_of(told(keepalive=0))["Peer"]


addresses = st.lists(st.ip_addresses(v=4), min_size=1, max_size=1) | st.lists(
    st.ip_addresses(v=6).filter(lambda a: not getattr(a, "ipv4_mapped", None)),
    min_size=1,
    max_size=1,
)
ranges = st.lists(
    st.builds(lambda a, n: f"{a}/{n}", st.ip_addresses(v=4), st.just(32))
    | st.sampled_from(["0.0.0.0/0", "::/0", "10.0.0.0/8", "2000::/3"]),
    min_size=1,
)


@given(
    addresses,
    ranges,
    st.sampled_from(["192.0.2.1:1", "[2001:db8::1]:65535", "vpn.example.org:51821"]),
    st.integers(1, 65535),
    st.integers(0, 65535),
)
def test_every_value_arrives(
    own: list[object], leads: list[str], endpoint: str, mtu: int, keepalive: int
) -> None:
    texts = [str(a) for a in own]
    data = told(addresses=texts, ranges=leads, endpoint=endpoint, mtu=mtu, keepalive=keepalive)
    config = parse_client_config(data)
    assert config == ClientConfig(tuple(texts), KEY, endpoint, tuple(leads), mtu, keepalive)
    found = read(render_client_config(config, PRIVATE))
    assert found["Interface"]["Address"].replace("/32", "").replace("/128", "") == texts[0]
    assert found["Peer"]["AllowedIPs"].split(", ") == leads
    assert found["Peer"]["Endpoint"] == endpoint
    assert found["Interface"]["MTU"] == str(mtu)
    assert found["Peer"].get("PersistentKeepalive", "0") == str(keepalive)


LINE = "\nPostUp = reboot #"


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("addresses", [f"10.20.0.1{LINE}"]),
        ("addresses", [f"fe80::1%{LINE}"]),
        ("addresses", ["10.20.0.1/24"]),
        ("addresses", [LINE]),
        ("addresses", [169_869_315]),
        ("addresses", "10.20.0.1"),
        ("addresses", None),
        ("addresses", 5),
        ("gateway_key", f"{KEY}{LINE}"),
        ("gateway_key", f"{KEY[:-1]}\n"),
        ("gateway_key", key32(0, kind=0)),
        ("gateway_key", None),
        ("endpoint", f"vpn.example.org{LINE}:1"),
        ("endpoint", f"vpn.example.org:1{LINE}"),
        ("endpoint", f"[fe80::1%{LINE}]:1"),
        ("endpoint", "vpn.example.org"),
        ("endpoint", None),
        ("endpoint", ["192.0.2.1:1"]),
        ("ranges", [f"10.20.0.0/24{LINE}"]),
        ("ranges", [f"fe80::1%{LINE}/128"]),
        ("ranges", [f"fe80::1%eth0{LINE}/128"]),
        ("ranges", ["fe80::1%eth0/128"]),
        ("ranges", [f"{LINE}"]),
        ("ranges", ["10.20.0.1/24"]),
        ("ranges", [5]),
        ("ranges", ["10.20.0.0/24", None]),
        ("ranges", "10.20.0.0/24"),
        ("ranges", None),
        ("mtu", f"1420{LINE}"),
        ("mtu", 0),
        ("mtu", 65536),
        ("mtu", True),
        ("mtu", 1420.5),
        ("mtu", None),
        ("keepalive", f"25{LINE}"),
        ("keepalive", -1),
        ("keepalive", 65536),
        ("keepalive", None),
        ("keepalive", [25]),
    ],
)
def test_what_cannot_be_in_a_file_is_refused(field: str, value: object) -> None:
    with pytest.raises(BadReply):
        parse_client_config(told(**{field: value}))


@pytest.mark.parametrize("field", sorted(told()))
def test_what_is_missing_is_missed(field: str) -> None:
    data = told()
    del data[field]
    with pytest.raises(BadReply, match=field):
        parse_client_config(data)


@pytest.mark.parametrize("data", [None, [], "config", 5, {}])
def test_what_is_no_config_is_refused(data: Any) -> None:
    with pytest.raises(BadReply):
        parse_client_config(data)


def test_what_else_is_told_is_not_in_the_file() -> None:
    more = {"PostUp": "reboot", "private_key": PRIVATE, "dns": "192.0.2.53", "Table": "off"}
    assert parse_client_config(told(**more)) == parse_client_config(told())


HEADS = ("10.20.0.1", "fe80::1", "[fe80::1", "::", "vpn.example.org", KEY, "1420", "")
JOINTS = (LINE, f"%{LINE}", f"%eth0{LINE}", "\r", "\u2028PostUp", "\n")
TAILS = ("", "/32", "/128", ":1", "]:1")


@pytest.mark.parametrize("field", sorted(told()))
def test_no_value_goes_on_in_another_line(field: str) -> None:
    for parts in product(HEADS, JOINTS, TAILS):
        text = "".join(parts)
        for value in (text, [text], ["10.20.0.1", text], {text: text}):
            with pytest.raises(BadReply):
                parse_client_config(told(**{field: value}))


hostile = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.text(alphabet="0:./%\n#=[]fe8P ", max_size=24)
    | st.sampled_from([f"fe80::1%{LINE}/128", f"1{LINE}", KEY, "0.0.0.0/0", "vpn.example.org:1"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=5,
)


@given(st.dictionaries(st.sampled_from(sorted(told())), hostile, min_size=1))
def test_no_answer_brings_a_line_of_its_own(changes: dict[str, Any]) -> None:
    data = told(**changes)
    wrapped = told(**{k: [v] for k, v in changes.items()})
    for answer in (data, wrapped):
        with contextlib.suppress(BadReply):
            found = file_of(answer)
            for section in found.values():
                assert not any(c in value for value in section.values() for c in "\n\r#%")
