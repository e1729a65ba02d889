"""Single checks of `nmk doctor`, and what they are made of."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nmk.agent import doctor, state
from nmk.agent.checks import controller, firewall, machine, peers
from nmk.agent.reach import Visit, parse_date, visit
from nmk.core.overlap import Overlap, Place, find_overlaps
from nmk.errors import CommandFailed
from nmk.system import starters, wireguard
from nmk.system.routes import parse_addresses, parse_routes
from nmk.system.runner import Runner
from tests.agent.controllers import answering, http
from tests.agent.memberships import joined

URL = "http://192.0.2.1:50051"
WIFI = Place("192.168.1.0/24", "wlan0")


@pytest.mark.parametrize(
    ("there", "kind", "nodes"),
    [
        ("10.77.0.2/32", "taken", ("10.77.0.2",)),
        ("10.77.0.0/24", "taken", ("10.77.0.1", "10.77.0.2")),
        ("10.77.0.128/25", "beside", ()),
        ("10.0.0.0/8", "hidden", ()),
        ("fd77::/64", "taken", ("fd77::1",)),
    ],
)
def test_an_overlap(there: str, kind: str, nodes: tuple[str, ...]) -> None:
    place = Place(there, "wlan0")
    found = find_overlaps(
        ["10.77.0.0/24", "fd77::/64"], [WIFI, place], ["10.77.0.1", "10.77.0.2", "fd77::1"]
    )
    assert [(o.place, o.kind, o.nodes) for o in found] == [(place, kind, nodes)]


def test_the_worst_overlap_comes_first() -> None:
    wide, beside, taken = (
        Place("10.0.0.0/8", "a"),
        Place("10.77.0.8/32", "b"),
        Place("10.77.0.2/32", "c"),
    )
    found = find_overlaps(["10.77.0.0/24"], [wide, beside, taken], ["10.77.0.2"])
    assert found[0] == Overlap(taken, "taken", ("10.77.0.2",))


ADDRESSES = """[{"ifname":"lo","addr_info":[{"local":"127.0.0.1","prefixlen":8,"scope":"host"}]},{},
{"ifname":"wlan0","addr_info":[{"local":"192.168.1.7","prefixlen":24,"scope":"global"},
{"local":"fe80::1","prefixlen":64,"scope":"link"},
{"local":"2001:db8::7","prefixlen":64,"scope":"global"}]}]"""
ROUTES = """[{"dst":"default","gateway":"192.168.1.1","dev":"wlan0"},
{"dst":"192.168.1.0/24","dev":"wlan0"},{"dst":"10.9.8.7","dev":"tun0"},
{"type":"unreachable","dst":"10.0.0.0/8"},{"dst":"0.0.0.0/0","dev":"wlan0"}]"""
ROUTES6 = """[{"dst":"fe80::/64","dev":"wlan0"},{"dst":"2001:db8::/64","dev":"wlan0"}]"""


def test_places_of_a_machine() -> None:
    assert parse_addresses(ADDRESSES) == [WIFI, Place("2001:db8::/64", "wlan0")]
    assert parse_routes(ROUTES, 4) == [WIFI, Place("10.9.8.7/32", "tun0")]
    assert parse_routes(ROUTES6, 6) == [Place("2001:db8::/64", "wlan0")]
    assert parse_routes("", 6) == []
    with pytest.raises(CommandFailed):
        parse_addresses("no JSON")


@pytest.fixture
def written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A state file that was written at 1000."""
    monkeypatch.setenv("NMK_STATE_DIR", str(tmp_path))
    state.save(joined())
    os.utime(state.file_of("home"), (1000, 1000))
    return tmp_path


@pytest.mark.usefixtures("written")
@pytest.mark.parametrize(
    ("now", "there", "level", "reason"),
    [
        (2000, 2030, "ok", "as the controller's"),
        (2000, None, "ok", "no controller answers"),
        (9000, 2000, "warn", "116m ahead of the controller's"),
        (2000, 9000, "warn", "116m behind the controller's"),
        (939, 939, "warn", "it is right now, and was 61s ahead: peers that it called"),
        (939, None, "broken", "61s behind the time when this machine wrote its state"),
        (939, 9000, "broken", "61s behind the time when this machine wrote its state"),
    ],
)
def test_the_clock(now: int, there: float | None, level: str, reason: str) -> None:
    [found] = controller.check_clock(joined(), [Visit(URL, None, there)], now)
    assert found.level == level
    assert reason in found.reason
    assert (found.mend is None) == (level == "ok")


@pytest.mark.usefixtures("written")
def test_a_right_clock_is_not_to_be_set() -> None:
    """It was ahead, and came back: who cannot compare it with another is told both."""

    def mend(there: float | None) -> str:
        return str(controller.check_clock(joined(), [Visit(URL, None, there)], 400)[0].mend)

    assert mend(410) == "nothing: it passes by itself, in 10m at the latest"
    assert mend(None).startswith("look what it says: date; if that is wrong: ")
    assert mend(None).endswith("; if right, it passes by itself, in 10m at the latest")
    assert "passes" not in mend(9000)


def test_each_silent_url_has_its_own_hint(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nmk.tools.has_tool", lambda name: name == "curl")
    monkeypatch.setattr(controller, "own_addresses", lambda _: ("192.0.2.7/24",))
    away = "cannot be reached: Network is unreachable"
    other, six = "http://192.0.2.2:50051", "http://[2001:db8::1]:50051"
    visits = [Visit(URL, None), Visit(other, away), Visit(six, away)]
    _, warned, fine = controller.check_controller(joined(), visits)
    assert (warned.level, warned.reason) == ("warn", f"{other} {away}")
    assert str(warned.mend).startswith(f"curl {other}/healthz;")
    assert (fine.level, fine.mend) == ("ok", None)
    assert fine.reason == f"{six} is not for this machine, which has no IPv6 address"
    for why in ("Cannot assign requested address", "Address family not supported by protocol"):
        off = Visit(six, f"cannot be reached: {why}")
        assert controller.check_controller(joined(), [Visit(URL, None), off])[1] == fine
    [broken] = controller.check_controller(joined(), [Visit(six, away)])
    assert broken.level == "broken"


def test_a_visit() -> None:
    date = "Date: Mon, 05 Jan 2026 10:00:00 GMT"
    with answering(http("200 OK", b"ok\n", date)) as url:
        assert visit(url) == Visit(url, None, 1767607200)
    with answering(http("200 OK", b"<html>", "Date: yesterday")) as url:
        assert "is no controller" in str(visit(url).problem)
    with answering(b"SSH-2.0\r\n") as url:
        assert "answers with no HTTP" in str(visit(url).problem)
    assert "cannot be reached" in str(visit(url).problem)


@pytest.mark.parametrize(
    "date",
    [
        "Mon, 01 Jan 2024 00:00:00 +99999999999999999999",
        "Mon, 01 Jan 0000 00:00:00 GMT",
        "Sat, 31 Feb 2026 00:00:00 GMT",
        "Mon, 05 Jan 2026 10:00:61 GMT",
        "Mon, 05 Jan 2026 10:00:00 +0000",
        "Mon, \u0660\u0665 Jan 2026 10:00:00 GMT",
    ],
)
def test_a_date_is_one_or_is_none(date: str) -> None:
    """Anybody on the path can write it."""
    assert parse_date(date) is None
    with answering(http("200 OK", b"ok\n", f"Date: {date.encode().decode('latin-1')}")) as url:
        assert visit(url) == Visit(url, None)


@given(st.text())
def test_no_date_is_an_error(date: str) -> None:
    assert parse_date(date) is None


def test_a_check_that_fails_as_nobody_foresaw_ends_no_other(
    state_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> list[Visit]:
        raise OverflowError("too large")

    assert state_dir.is_dir()
    state.save(joined())
    monkeypatch.setattr(doctor, "visit_all", fail)
    found = {f.check: f for f in doctor.examine(["home"], Runner(), lambda: 0.0)}
    assert found["controller"].level == "broken"
    assert "cannot be looked at: internal error: OverflowError" in found["controller"].reason
    assert {"clock", "interface", "firewall"} <= found.keys()


@given(st.integers(1281, 9000), st.data())
def test_the_size_that_fits_is_found(high: int, data: st.DataObject) -> None:
    limit = data.draw(st.integers(1000, high - 1))
    fits = peers.find_size(lambda size: size is None or size <= limit, high)
    if limit < 1280:
        assert fits == 0
    else:
        assert fits is not None
        assert fits <= limit < fits + 20


@pytest.mark.parametrize("answered", [0, 1, 2, 3])
def test_a_peer_that_goes_away_has_no_mtu(answered: int) -> None:
    """However far the look has come when it does."""
    sizes: list[int | None] = []

    def passes(size: int | None) -> bool:
        sizes.append(size)
        return len(sizes) <= answered and (size is None or size <= 1300)

    assert peers.find_size(passes, 1380) is None


@pytest.mark.parametrize(("limit", "mend"), [(1340, "mtu=13"), (1200, "ping -M do")])
def test_the_mtu_is_lowered_only_where_that_helps(limit: int, mend: str) -> None:
    passes = lambda size: size is None or size <= limit  # noqa: E731
    size = peers.find_size(passes, 1420)
    assert size is not None
    found = peers._too_large("home", {"name": "db", "endpoint": "192.0.2.7:1"}, 1420, size)
    assert mend in str(found.mend)
    assert ("mtu=" in str(found.mend)) == (limit >= 1280)


def test_one_silent_peer_is_a_warning_all_are_not() -> None:
    def row(name: str, condition: str) -> dict[str, object]:
        problem = "nothing comes back" if condition in {"failed", "silent"} else None
        return {"name": name, "state": condition, "problem": problem, "next": f"nmk ping {name}"}

    dead, alive, idle = row("dead", "failed"), row("alive", "connected"), row("idle", "idle")
    [some] = peers.check_peers("home", [dead, alive, idle])
    assert (some.level, some.mend) == ("warn", "nmk ping dead")
    assert some.reason == "1 of 3 peers in touch, 1 idle, 1 silent. dead: nothing comes back"
    [all_of_them] = peers.check_peers("home", [dead, idle])
    assert all_of_them.level == "broken"
    assert peers.check_peers("home", [])[0].level == "ok"
    [given_up] = peers.check_peers("home", [row("gone", "silent"), alive])
    assert (given_up.level, given_up.mend) == ("warn", "nmk ping gone")
    assert given_up.reason.startswith("1 of 2 peers in touch, 0 idle, 1 silent. gone: ")


@pytest.mark.parametrize(("missing", "level"), [("wg", "broken"), ("nft", "warn")])
def test_a_missing_program(monkeypatch: pytest.MonkeyPatch, missing: str, level: str) -> None:
    monkeypatch.setattr(machine, "has_tool", lambda name: name != missing)
    versions, found = machine.check_tools(Runner())
    assert missing not in versions.reason.replace(",", "").split()[::2]
    assert (found.level, found.reason) == (level, f"{missing} is not installed")
    assert found.mend
    assert found.mend.startswith("apt-get install ")


def test_no_wireguard_at_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wireguard, "kernel_has_wireguard", lambda: False)
    monkeypatch.setattr(wireguard, "userspace_program", lambda: None)
    [found] = machine.check_wireguard(Runner())
    assert (found.level, found.mend) == ("broken", "apt-get install wireguard-go")
    monkeypatch.setattr(wireguard, "kernel_has_wireguard", lambda: True)
    assert machine.check_wireguard(Runner())[0].level == "ok"


def test_nothing_to_look_at_a_firewall_with() -> None:
    [found] = firewall.check_firewall(joined(), 51821, None)
    assert found.level == "warn"


@pytest.mark.parametrize(
    ("line", "is_one"),
    [
        ("* * * * * root /usr/local/bin/nmk checkin --quiet --splay 30", True),
        ("@reboot nmk checkin", True),
        ("# * * * * * root nmk checkin", False),
        ("* * * * * root nmk status", False),
    ],
)
def test_a_line_of_a_crontab(line: str, is_one: bool) -> None:
    assert starters.is_check_in(line) is is_one


@pytest.mark.parametrize(
    ("route", "remove"),
    [
        ({"dev": "x;id>hacked"}, "dev 'x;id>hacked'"),
        ({"nexthops": [{"dev": "eth0"}, {"dev": "eth1"}]}, ""),
        ({"dev": "eth0", "tos": "0x10", "metric": 4}, "dev eth0 metric 4 tos 0x10"),
        ({"gateway": "10.0.0.1", "dev": "eth0", "nhid": 7}, "nhid 7"),
    ],
)
def test_a_route_in_the_way_is_removed_by_a_command_that_a_shell_takes(
    route: dict[str, object], remove: str
) -> None:
    [place] = parse_routes(json.dumps([{"dst": "10.77.0.2", **route}]), 4)
    assert place.interface
    assert place.remove == f"ip -4 route del 10.77.0.2 {remove}".rstrip()
