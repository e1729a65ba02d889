"""Applying a plan makes the diff empty, and touches nothing that is not ours."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nmk.core.gateways import Gateway, Ingress
from nmk.core.peers import View
from nmk.core.tunnel import (
    MARK,
    NO_KEY,
    Command,
    Own,
    Tunnel,
    TunnelPeer,
    compile_tunnel,
    diff_tunnel,
    plan_changes,
    render_quick,
)
from tests.core.machine import CREATE, Machine, parse_config
from tests.core.made import (
    INGRESS,
    identity,
    key32,
    made_client,
    made_mesh,
    made_node,
    made_view,
)

FOREIGN = "192.0.2.1/24"
OWN = Own("nmk-home", key32(99), 51821)
SHARED = key32(1, kind=3)


def tunnel(*numbers: int, **fields: object) -> Tunnel:
    """An interface with these peers."""
    peers = {key32(n): peer(n) for n in numbers}
    values = {
        "interface": "nmk-home",
        "private_key": key32(99),
        "listen_port": 51821,
        "mtu": 1420,
        "addresses": ("10.20.0.1/16",),
        "peers": peers,
    }
    return Tunnel(**{**values, **fields})  # type: ignore[arg-type]  # the fields' own types differ


def peer(number: int, **fields: object) -> TunnelPeer:
    values = {
        "key": key32(number),
        "allowed_ips": (f"10.20.1.{number}/32",),
        "keepalive": 25,
        "endpoint": f"198.51.100.{number}:51821",
    }
    return TunnelPeer(**{**values, **fields})  # type: ignore[arg-type]  # as above


def endpoints(want: Tunnel) -> dict[str, str]:
    """What the agent remembers to have set."""
    return {p.key: p.endpoint for p in want.peers.values() if p.endpoint}


def apply(
    machine: Machine, want: Tunnel, set_before: Mapping[str, str] | None = None
) -> list[Command]:
    """One tick's commands, run on the machine."""
    before = set_before or {}
    changes = diff_tunnel(want, machine.live, before)
    commands = plan_changes(want, machine.live, changes, before, CREATE)
    for command in commands:
        machine.run(command)
    return commands


@st.composite
def tunnels(draw: st.DrawFn) -> Tunnel:
    """A wanted interface; addresses go round among its peers from one draw to the next."""
    numbers = draw(st.lists(st.integers(1, 6), unique=True))
    hosts = draw(st.permutations(range(1, 7)))
    return tunnel(
        private_key=key32(draw(st.sampled_from([98, 99]))),
        listen_port=draw(st.sampled_from([51821, 51822])),
        mtu=draw(st.sampled_from([1280, 1420])),
        addresses=(
            draw(st.sampled_from(["10.20.0.1/16", "10.20.0.2/16"])),
            *draw(st.sampled_from([(), ("fd20::1/64",), ("fd20::2/64",)])),
        ),
        peers={
            key32(n): peer(
                n,
                allowed_ips=(f"10.20.1.{host}/32", f"fd20::1:{host}/128"),
                keepalive=draw(st.sampled_from([0, 25])),
                endpoint=draw(st.sampled_from([None, "198.51.100.1:1", "[2001:db8::1]:1"])),
                preshared_key=draw(st.sampled_from(["", SHARED, key32(2, kind=3)])),
            )
            for n, host in zip(numbers, hosts, strict=False)
        },
    )


@given(tunnels(), tunnels())
def test_applying_a_plan_makes_the_diff_empty(first: Tunnel, second: Tunnel) -> None:
    machine = Machine()
    set_before: dict[str, str] = {}
    for want in (first, second, first):
        assert len(apply(machine, want, set_before)) <= 4
        set_before = endpoints(want)
        assert diff_tunnel(want, machine.live, set_before) == []
        assert machine.live
        assert set(machine.live.peers) == set(want.peers)
        assert machine.live.mark == MARK
        for part in ("allowed_ips", "keepalive", "preshared_key"):
            assert {k: getattr(p, part) for k, p in machine.live.peers.items()} == {
                k: getattr(p, part) for k, p in want.peers.items()
            }


def test_an_empty_diff_runs_no_command() -> None:
    machine = Machine()
    apply(machine, tunnel(1, 2))
    assert apply(machine, tunnel(1, 2), endpoints(tunnel(1, 2))) == []


def test_a_peer_that_comes_is_added_beside_the_others() -> None:
    machine = Machine()
    apply(machine, tunnel(1, 2))
    [command] = apply(machine, tunnel(1, 2, 3), endpoints(tunnel(1, 2)))
    assert command.argv[:2] == ("wg", "addconf")
    assert command.stdin
    assert [s["PublicKey"] for s in parse_config(command.stdin)] == [key32(3)]


def test_an_mtu_that_took_ipv6_along_is_put_back_before_the_addresses() -> None:
    machine = Machine()
    want = tunnel(1, addresses=("10.20.0.1/16", "fd20::1/64"))
    apply(machine, want)
    assert machine.live
    machine.live = replace(machine.live, mtu=68, addresses=want.addresses[:1])
    [_] = apply(machine, want, endpoints(want))
    assert diff_tunnel(want, machine.live, endpoints(want)) == []


def test_an_endpoint_that_roamed_is_left_alone() -> None:
    machine = Machine()
    want = tunnel(1, 2)
    apply(machine, want)
    machine.roam(key32(1), "203.0.113.9:40000")
    assert apply(machine, want, endpoints(want)) == []
    apply(machine, tunnel(2, 1, 3), endpoints(want))
    apply(machine, tunnel(1), endpoints(want))  # a removal writes the configuration whole
    assert machine.live
    assert machine.live.peers[key32(1)].endpoint == "203.0.113.9:40000"


def test_an_endpoint_is_set_when_our_choice_changes() -> None:
    machine = Machine()
    apply(machine, tunnel(1))
    machine.roam(key32(1), "203.0.113.9:40000")
    chosen = tunnel(peers={key32(1): peer(1, endpoint="192.168.1.7:51821")})
    apply(machine, chosen, endpoints(tunnel(1)))
    assert machine.live
    assert machine.live.peers[key32(1)].endpoint == "192.168.1.7:51821"


def test_an_interface_of_0_1_0_gets_its_mark_and_loses_no_peer() -> None:
    machine = Machine(tunnel(1, 2, mark=0))
    [command] = apply(machine, tunnel(1, 2), endpoints(tunnel(1, 2)))
    assert command.argv[:2] == ("wg", "syncconf")
    assert machine.live == tunnel(1, 2)


@pytest.mark.parametrize("others", [(), (2,)])
def test_a_shared_key_that_is_gone_is_taken_from_the_peer(others: tuple[int, ...]) -> None:
    """By itself, and where the configuration is written whole because a peer goes."""
    machine = Machine(tunnel(1, *others))
    shared = {key32(1): peer(1, preshared_key=SHARED)}
    apply(machine, tunnel(peers=shared), endpoints(tunnel(1)))
    assert machine.live
    assert machine.live.peers[key32(1)].preshared_key == SHARED
    commands = apply(machine, tunnel(1, *others), endpoints(tunnel(1)))
    assert machine.live.peers[key32(1)].preshared_key == ""
    assert any(f"PresharedKey = {NO_KEY}\n" in (c.stdin or "") for c in commands)


def test_addresses_that_nobody_wants_go_wherever_they_are_from() -> None:
    """Each of them leads its whole range into the tunnel."""
    machine = Machine(replace(tunnel(1), addresses=("203.0.0.5/8", "fe80::1/64", "10.20.0.7/16")))
    apply(machine, tunnel(1))
    assert machine.live
    assert set(machine.live.addresses) == {*tunnel(1).addresses, "fe80::1/64"}


def test_a_peer_that_never_shared_a_key_has_no_line_of_one() -> None:
    commands = apply(Machine(), tunnel(1, 2))
    assert not any("PresharedKey" in (c.stdin or "") for c in commands)


def test_shared_keys_are_shown_to_nobody() -> None:
    want = tunnel(peers={key32(1): peer(1, preshared_key=SHARED)})
    changes = diff_tunnel(want, tunnel(1), {})
    commands = plan_changes(want, tunnel(1), changes, {}, CREATE)
    own = replace(OWN, preshared={key32(1): SHARED})
    shown = [str(c) for c in commands] + [repr(c) for c in commands]
    shown += [c.line for c in changes] + [repr(want), repr(own)]
    assert any(SHARED in (c.stdin or "") for c in commands)
    assert not any(SHARED in text for text in shown)


def test_changes_say_what_happens_and_commands_hide_secrets() -> None:
    changes = diff_tunnel(tunnel(1), tunnel(2, mtu=1280, listen_port=1), {})
    lines = [c.line for c in changes]
    assert [line.split()[0] for line in lines] == ["listen", "add", "remove", "set"]
    assert "198.51.100.1:51821" in lines[1]
    commands = plan_changes(tunnel(1), None, changes, {}, CREATE)
    shown = [str(c) for c in commands] + [repr(c) for c in commands] + [repr(tunnel(1)), *lines]
    assert not any(key32(99) in text for text in shown)


def view(**node: object) -> View:
    """A view of n1 with the peer n2."""
    return made_view(made_mesh(made_node(1), made_node(2, **node)))


def test_a_view_becomes_a_tunnel() -> None:
    made = compile_tunnel(view(), OWN, {})
    assert made == tunnel(
        addresses=("10.20.0.1/24",),
        peers={key32(2): TunnelPeer(key32(2), ("10.20.0.2/32",), 25, None)},
    )


def test_the_machines_own_settings_win() -> None:
    own = replace(OWN, settings={"mtu": 1300, "keepalive": 0})
    made = compile_tunnel(view(), own, {})
    assert made.mtu == 1300
    assert made.peers[key32(2)].keepalive == 0


def test_what_else_is_sent_to_a_peer_stands_beside_its_addresses_as_wg_sorts_it() -> None:
    more = {made_node(2).id: ("::/0", "10.20.0.201/32", "0.0.0.0/0"), "f" * 16: ("10.9.0.0/16",)}
    made = compile_tunnel(view(), OWN, more)
    ranges = ("0.0.0.0/0", "10.20.0.2/32", "10.20.0.201/32", "::/0")
    assert made.peers[key32(2)].allowed_ips == ranges
    assert list(made.peers) == [key32(2)]


def clients_of(gateway: Gateway) -> View:
    """A view of n1 with such roles: c1 and c2 are its own clients, c3 calls n2."""
    return made_view(
        made_mesh(
            made_node(1, address6="fd20::1", gateway=gateway),
            made_node(2, address6="fd20::2", gateway=INGRESS),
            made_client(1),
            made_client(2, address6="fd20::c2"),
            made_client(3, gateway=identity(2)),
            cidr6="fd20::/64",
        )
    )


def test_an_ingress_gateway_waits_for_its_own_clients_and_no_others() -> None:
    own = replace(OWN, preshared={made_client(2).public_key: SHARED, key32(2): SHARED})
    made = compile_tunnel(clients_of(INGRESS), own, {})
    one, two = (made_client(n).public_key for n in (1, 2))
    assert made.peers.keys() == {key32(2), one, two}
    assert made.peers[one] == TunnelPeer(one, ("10.20.0.201/32",))
    assert made.peers[two] == TunnelPeer(
        two, ("10.20.0.202/32", "fd20::c2/128"), preshared_key=SHARED
    )
    assert made.peers[key32(2)].preshared_key == ""


def test_who_is_no_ingress_gateway_lets_nobody_in() -> None:
    made = compile_tunnel(clients_of(Gateway()), OWN, {})
    assert list(made.peers) == [key32(2)]


def test_a_client_whose_address_is_somebody_elses_here_is_left_out() -> None:
    found = clients_of(Gateway(Ingress("vpn.example.org:1")))
    made = compile_tunnel(found, OWN, {}, {"10.20.0.201", "10.20.0.202"})
    assert made_client(1).public_key not in made.peers
    assert made.peers[made_client(2).public_key].allowed_ips == ("fd20::c2/128",)


def test_the_file_for_wg_quick_says_it_all() -> None:
    want = compile_tunnel(view(endpoint="198.51.100.2:1"), OWN, {})
    interface, first = parse_config(
        render_quick(replace(want, addresses=("10.20.0.1/24", "fd::1/64")))
    )
    assert interface == {
        "section": "Interface",
        "PrivateKey": key32(99),
        "ListenPort": "51821",
        "Address": "10.20.0.1/24, fd::1/64",
        "MTU": "1420",
    }
    assert first == {
        "section": "Peer",
        "PublicKey": key32(2),
        "AllowedIPs": "10.20.0.2/32",
        "Endpoint": "198.51.100.2:1",
        "PersistentKeepalive": "25",
    }
