from __future__ import annotations

import os
import struct
from concurrent.futures import ThreadPoolExecutor
from ipaddress import ip_interface
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nmk.core.endpoints import is_place
from nmk.system import addresses, facts


def test_usable_addresses_keep_their_prefix_lengths() -> None:
    assert facts.parse_addresses(
        [
            {"addr": "192.168.1.7", "netmask": "255.255.255.0"},
            {"addr": "2001:db8::7", "netmask": "ffff:ffff:ffff:ffff::/64"},
        ]
    ) == ["192.168.1.7/24", "2001:db8::7/64"]


def test_addresses_that_lead_nowhere_are_left_out() -> None:
    assert not facts.parse_addresses(
        [
            {"addr": "127.0.0.1", "netmask": "255.0.0.0"},
            {"addr": "169.254.3.4", "netmask": "255.255.0.0"},
            {"addr": "fe80::1%eth0", "netmask": "ffff:ffff:ffff:ffff::/64"},
            {"addr": "::1", "netmask": "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff/128"},
            {"peer": "10.0.0.1"},
            {"addr": "nonsense", "netmask": "255.0.0.0"},
        ]
    )


@pytest.fixture
def net(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A /sys/class/net with the interfaces of a machine that runs a bit of everything."""
    monkeypatch.setattr(facts, "_SYS", tmp_path)
    for path in (
        "eth0/device",
        "veth1",
        "docker0/bridge",
        "docker0/brif/veth1",
        "vmbr0/bridge",
        "vmbr0/brif/eth0",
        "vmbr1/bridge",
        "vmbr1/brif/bond0",
        "bond0/lower_eth1",
        "virbr0/bridge",
    ):
        (tmp_path / path).mkdir(parents=True)
    for file, text in (
        ("tun0/tun_flags", "0x1001"),
        ("wg0/uevent", "DEVTYPE=wireguard\n"),
        ("eth0/operstate", "up\n"),
        ("dummy0/operstate", "unknown\n"),
        ("eth7/operstate", "down\n"),
        ("vlan7/operstate", "lowerlayerdown\n"),
    ):
        (tmp_path / file).parent.mkdir(exist_ok=True)
        (tmp_path / file).write_text(text)
    return tmp_path


@pytest.mark.parametrize("name", ["eth0", "veth1", "vmbr0", "vmbr1", "dummy0", "unheard-of"])
def test_interfaces_that_lead_out(net: Path, name: str) -> None:
    assert facts.is_outward(net / name)


@pytest.mark.parametrize("name", ["docker0", "virbr0", "tun0", "wg0", "eth7", "vlan7"])
def test_tunnels_closed_bridges_and_what_is_unplugged(net: Path, name: str) -> None:
    assert not facts.is_outward(net / name)


@pytest.mark.usefixtures("net")
def test_a_bridge_of_containers_alone_is_told_from_one_with_a_port() -> None:
    names = ("docker0", "virbr0", "vmbr0", "vmbr1", "eth0", "tun0", "unheard-of")
    assert [name for name in names if facts.is_inner(name)] == ["docker0", "virbr0"]


def test_own_addresses_are_in_a_fixed_order_and_leave_out_ours() -> None:
    import netifaces

    found = facts.own_addresses()
    assert found == facts.own_addresses()
    assert not any(a.startswith(("127.", "fe80", "::1/")) for a in found)
    assert facts.own_addresses(leave_out=netifaces.interfaces()) == ()


def test_addresses_are_read_once_however_many_interfaces_there_are(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import netifaces

    asked: list[str] = []
    monkeypatch.setattr(netifaces, "interfaces", lambda: [f"eth{n}" for n in range(300)])

    def ask(name: str) -> dict[int, list[dict[str, str]]]:
        asked.append(name)
        return {}

    monkeypatch.setattr(netifaces, "ifaddresses", ask)
    facts.own_addresses()
    assert asked == []


def test_both_ways_to_read_addresses_agree() -> None:
    there = {(i, a) for i, a in addresses.all_addresses() if is_place(ip_interface(a).ip)}
    assert set(facts._one_by_one()) == there


def test_without_netlink_each_interface_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse() -> list[tuple[str, str]]:
        raise PermissionError

    before = facts.own_addresses()
    monkeypatch.setattr(facts, "all_addresses", refuse)
    assert facts.own_addresses() == before


@given(st.binary(max_size=200))
def test_a_message_of_the_kernel_that_is_cut_is_none(payload: bytes) -> None:
    for number, address in addresses.parse_address_message(payload):
        assert number >= 0
        assert str(ip_interface(address)) == address


def test_a_message_of_the_kernel() -> None:
    """The local address of a point-to-point link, whose other one is the peer's."""
    peer = struct.pack("=HH4s", 8, 1, bytes([10, 0, 0, 1]))
    local = struct.pack("=HH4s", 8, 2, bytes([10, 0, 0, 2]))
    message = struct.pack("=BBBBI", 2, 30, 0, 0, 7)
    assert [*addresses.parse_address_message(message + peer + local)] == [(7, "10.0.0.2/30")]


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory that is empty after a boot, and not yet there."""
    monkeypatch.setattr(facts, "is_volatile", lambda _: True)
    return tmp_path / "run"


def test_all_processes_find_one_life(place: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        lives = set(pool.map(facts._life, [place] * 64))
    assert lives == {(place / facts.INSTANCE).read_text()}
    assert (place / facts.INSTANCE).stat().st_mode & 0o777 == 0o600
    assert list(place.iterdir()) == [place / facts.INSTANCE]


def test_a_life_that_is_killed_before_it_has_a_name_leaves_nothing(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def end(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(os, "link", end)
        with pytest.raises(KeyboardInterrupt):
            facts._life(place)
    assert list(place.iterdir()) == []
    assert len(facts._life(place)) == 32
