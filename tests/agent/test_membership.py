from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nmk.agent.membership import Membership, Wishes, decode, encode
from nmk.core.tunnel import NO_KEY
from nmk.errors import BadView, RangesChanged, StateDamaged, StateNewer
from nmk.system.keys import public_key
from tests.agent.memberships import full_view, joined, joining, peer, told
from tests.core.made import key32
from tests.hostile.anything import SOME_JSON, paths

JOINED = replace(joined(peer(2), peer(3)), endpoints={peer(4)["key"]: "[2001:db8::4]:51821"})
GATEWAY = replace(
    joined(peer(2)),
    wishes=Wishes(settings={"mtu": 1380, "exit-node": "peer-2", "kill-switch": "on"}),
    preshared={key32(4): key32(5)},
    laid=frozenset({"filter", "routes", "docker"}),
    found={
        "net/ipv6/conf/eth0.100/accept_ra": "1",
        "net/ipv4/ip_forward": "0",
        "net/ipv6/conf/all/forwarding": "0",
        "net/ipv4/conf/all/src_valid_mark": "0",
    },
)
WRITTEN = encode(JOINED)
SINCE_0_1_0 = {
    *("ranges", "problems", "health", "as_read", "copies", "preshared", "laid", "found"),
    "successor",
}


@pytest.mark.parametrize(
    "me", [joining(), JOINED, replace(JOINED, down=True, phase="deleted"), GATEWAY]
)
def test_what_is_written_is_read(me: Membership) -> None:
    read = decode(encode(me), "home", "home.json")
    assert read == me
    assert list(read.found) == list(me.found)  # changes are taken back in the order they were made


@pytest.mark.parametrize("order", [-1, 1000, 1500, True, "1", None])
def test_a_place_that_no_network_can_have_is_damage(order: object) -> None:
    """Its rules would be ones that nmk does not know again."""
    data = {**json.loads(WRITTEN), "order": order}
    with pytest.raises(StateDamaged):
        decode(json.dumps(data).encode(), "home", "home.json")


def test_secrets_are_not_in_the_text_form() -> None:
    assert JOINED.private_key not in repr(JOINED)
    assert repr(JOINED.identity.secret) not in repr(JOINED)
    assert key32(5) not in repr(GATEWAY)


@given(st.integers(0, len(WRITTEN) - 1))
def test_every_truncation_is_noticed(length: int) -> None:
    with pytest.raises(StateDamaged, match=r"^home\.json is damaged: "):
        decode(WRITTEN[:length], "home", "home.json")


@given(st.binary(max_size=200))
def test_garbage_is_refused(raw: bytes) -> None:
    with pytest.raises(StateDamaged):
        decode(raw, "home", "home.json")


@given(st.sampled_from([WRITTEN, encode(GATEWAY)]), st.data())
def test_any_value_anywhere_is_refused_or_read(written: bytes, data: st.DataObject) -> None:
    content = json.loads(written)
    *way, last = data.draw(st.sampled_from(paths(content)))
    inside = content
    for key in way:
        inside = inside[key]
    inside[last] = data.draw(SOME_JSON)
    try:
        decode(json.dumps(content).encode(), "home", "home.json")
    except StateDamaged:
        return


@pytest.mark.parametrize("key", sorted(json.loads(WRITTEN).keys() - SINCE_0_1_0))
def test_a_missing_field_is_named(key: str) -> None:
    content = json.loads(WRITTEN)
    del content[key]
    with pytest.raises(StateDamaged, match=f"'{key}' is missing"):
        decode(json.dumps(content).encode(), "home", "home.json")


@pytest.mark.parametrize("key", ["settings", "preshared", "laid", "found"])
def test_a_field_that_0_2_0_wrote_is_not_left_out(key: str) -> None:
    content = json.loads(encode(GATEWAY))
    del (content["wishes"] if key == "settings" else content)[key]
    with pytest.raises(StateDamaged, match=f"'{key}' is missing"):
        decode(json.dumps(content).encode(), "home", "home.json")


def test_a_file_of_0_2_0_is_read() -> None:
    """And one of any version since, of which the later fields are not all there."""
    since = sorted(SINCE_0_1_0 - {"preshared", "laid", "found"})
    for count in range(len(since) + 1):
        content = {k: v for k, v in json.loads(encode(GATEWAY)).items() if k not in since[count:]}
        assert decode(json.dumps(content).encode(), "home", "home.json").wishes == GATEWAY.wishes


def test_a_file_of_0_1_0_is_read() -> None:
    content = {k: v for k, v in json.loads(WRITTEN).items() if k not in SINCE_0_1_0}
    del content["wishes"]["settings"], content["known"]["view"]["clients"]
    before = decode(json.dumps(content).encode(), "home", "home.json")
    assert before.known
    assert replace(before, known=JOINED.known) == JOINED
    assert JOINED.known
    assert before.known.view == JOINED.known.view


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("", "1"),
        ("net/ipv4", "1"),
        ("kernel/core_pattern", "1"),
        ("kernel/sysrq", "1"),
        ("/net/ipv4/ip_forward", "1"),
        ("../net/ipv4/ip_forward", "1"),
        ("net/ipv4/../../kernel/sysrq", "1"),
        ("net/ipv4/conf/../ip_forward", "1"),
        ("net/ipv4/conf/./forwarding", "1"),
        ("net/ipv4/conf/../../sysrq", "1"),
        ("net/ipv4/conf/a/b/forwarding", "1"),
        ("net/ipv4/conf//forwarding", "1"),
        ("net/ipv4/conf/interface-too-long/forwarding", "1"),
        ("net/ipv4/ip_forward\n", "1"),
        ("net/ipv4/ip_forward/", "1"),
        ("net/ipv4/neigh/eth0/proxy_qlen", "1"),
        ("net/ipv5/ip_forward", "1"),
        ("net/ipv4/ip_forward", ""),
        ("net/ipv4/ip_forward", "-1"),
        ("net/ipv4/ip_forward", "1\n"),
        ("net/ipv4/ip_forward", "|/tmp/x"),
        ("net/ipv4/ip_forward", 1),
        ("net/ipv4/ip_forward", None),
    ],
)
def test_a_kernel_setting_that_nmk_never_changes_is_refused(path: str, value: object) -> None:
    content = json.loads(WRITTEN)
    content["found"] = {path: value}
    with pytest.raises(StateDamaged):
        decode(json.dumps(content).encode(), "home", "home.json")


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("preshared", {key32(1): "short"}),
        ("preshared", {"short": key32(1)}),
        ("preshared", {key32(1): NO_KEY}),
        ("preshared", {key32(1): f"{key32(2)}\nPostUp = x"}),
        ("preshared", 5),
        ("laid", 5),
        ("found", []),
    ],
)
def test_what_cannot_be_beside_the_interface_is_refused(field: str, value: object) -> None:
    content = json.loads(WRITTEN)
    content[field] = value
    with pytest.raises(StateDamaged):
        decode(json.dumps(content).encode(), "home", "home.json")


@pytest.mark.parametrize("settings", [{"colour": "red"}, {"mtu": 1}, {"exit-node": "A B"}, 5])
def test_settings_that_cannot_be_noted_are_refused(settings: object) -> None:
    content = json.loads(WRITTEN)
    content["wishes"]["settings"] = settings
    with pytest.raises(StateDamaged):
        decode(json.dumps(content).encode(), "home", "home.json")


def test_a_kind_that_a_later_version_lays_is_passed_over() -> None:
    content = json.loads(encode(GATEWAY))
    content["laid"] = ["routes", "teleports"]
    assert decode(json.dumps(content).encode(), "home", "home.json").laid == {"routes"}


def test_a_network_has_a_name_here_and_one_there() -> None:
    me = joining(network="office", remote_name="home")
    me = replace(told(me, full_view(me, peer(2))), phase="joined")
    assert me.known
    assert me.known.view.network == "office"
    assert decode(encode(me), "office", "office.json") == me
    with pytest.raises(BadView, match="a view of 'office'"):
        told(me, full_view(replace(me, remote_name="office")))


def test_a_newer_format_is_told_from_damage() -> None:
    with pytest.raises(StateNewer, match=r"home\.json was written by a newer nmk"):
        decode(b'{"version": 2}', "home", "home.json")


def test_the_file_of_another_network_is_refused() -> None:
    with pytest.raises(StateDamaged, match="it is of 'home'"):
        decode(WRITTEN, "office", "office.json")


def test_a_delta_adds_changes_and_removes() -> None:
    two, three = peer(2), peer(3)
    me = joined(two, three)
    delta = full_view(me, {**two, "name": "renamed"}, peer(4), seq=3) | {
        "at": [9, "beef"],
        "full": False,
        "gone": [three["id"]],
    }
    after = told(me, delta)
    assert after.known
    assert sorted(p.name for p in after.known.view.peers.values()) == ["peer-4", "renamed"]
    assert (after.known.revision, after.known.commit_id, after.seq) == (9, "beef", 3)


def test_the_ranges_of_the_first_view_are_agreed_on() -> None:
    assert joining().ranges == ()
    assert JOINED.ranges == ("10.77.0.0/24",)


def test_a_file_of_0_2_0_agrees_on_the_ranges_that_it_holds() -> None:
    content = json.loads(WRITTEN)
    del content["ranges"]
    assert decode(json.dumps(content).encode(), "home", "home.json").ranges == JOINED.ranges


def test_a_view_in_a_file_has_the_ranges_agreed_on() -> None:
    content = json.loads(WRITTEN)
    content["ranges"] = ["10.78.0.0/24"]
    with pytest.raises(StateDamaged, match="other ranges than 10"):
        decode(json.dumps(content).encode(), "home", "home.json")


@pytest.mark.parametrize("full", [True, False])
@pytest.mark.parametrize(
    ("cidrs", "address"),
    [
        (["203.0.0.0/8"], "203.0.0.1"),
        (["10.77.0.0/16"], "10.77.0.1"),
        (["10.77.0.0/25"], "10.77.0.1"),
        (["10.77.0.0/24", "2000::/32"], "10.77.0.1"),
    ],
)
def test_a_view_with_other_ranges_is_refused_and_named(
    cidrs: list[str], address: str, *, full: bool
) -> None:
    view = full_view(JOINED) | {"full": full, "at": [9, "beef"]}
    view["network"]["cidrs"], view["self"]["addresses"] = cidrs, [address]
    with pytest.raises(RangesChanged, match="joined it with 10") as raised:
        told(joined(), view)
    assert ", ".join(cidrs) in raised.value.message
    assert "nmk leave -n home" in raised.value.hint


def test_unchanged_changes_nothing() -> None:
    assert told(JOINED, {"at": [7, "c0ffee"]}) is JOINED


@pytest.mark.parametrize(
    "wrong",
    [
        {"at": [8, "c0ffee"]},
        {"at": [7, "other"]},
        {},
        full_view(JOINED) | {"epoch": "00"},
        full_view(JOINED) | {"epoch": 7},
        full_view(JOINED) | {"at": [7]},
        full_view(JOINED) | {"at": [True, "c0ffee"]},
        full_view(JOINED) | {"peers": 5},
        full_view(JOINED) | {"self": {"id": "0" * 16}},
        full_view(joining()),
        full_view(JOINED, peer(1)),
    ],
)
def test_what_does_not_fit_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(BadView):
        told(JOINED, wrong)


@pytest.mark.parametrize(
    "entry",
    [
        {"lan": ["fe80::1%x\nAllowedIPs = 8.8.8.8/64"]},
        {"addresses": ["10.77.0.2\naddress flush"]},
        {"addresses": ["192.0.2.1"]},
        {"observed": ["::1%x\ny"]},
        {"static": "[fe80::1%x\ny]:1"},
        {"key": "A" * 44},
        {"key": public_key(JOINED.private_key)},
        {"name": "-x"},
        {"port": 0},
    ],
)
def test_a_hostile_peer_is_refused(entry: dict[str, Any]) -> None:
    with pytest.raises(BadView):
        told(JOINED, full_view(JOINED, peer(2) | entry))


def test_hostile_addresses_of_our_own_are_refused() -> None:
    view = full_view(JOINED)
    view["network"]["cidrs"] = ["fd00:1::/64"]
    view["self"]["addresses"] = ["fd00:1::5%x\nlink set dev eth0 down"]
    with pytest.raises(BadView):
        told(JOINED, view)
