"""A kernel without IPv6, of which /proc/sys/net/ipv6 is not there: nothing can be switched on."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from nmk.agent import surroundings, tick
from nmk.agent.desired import desired
from nmk.core.gateways import Egress, Exit, Gateway
from nmk.system import sysctl
from tests.agent.memberships import joined, peer

ON = "net.ipv6.conf.all.disable_ipv6=0 net.ipv6.conf.default.disable_ipv6=0"


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The settings of a kernel that has IPv4 alone."""
    monkeypatch.setattr(sysctl, "_ROOT", tmp_path / "sys")
    monkeypatch.setattr(sysctl, "_CMDLINE", tmp_path / "cmdline")
    (tmp_path / "sys/net/ipv4").mkdir(parents=True)
    (tmp_path / "sys/net/ipv4/ip_forward").write_text("1\n")
    return tmp_path


@pytest.mark.usefixtures("state_dir")
@pytest.mark.parametrize(
    ("cmdline", "setting", "hint"),
    [
        ("quiet ipv6.disable=1", None, "start a kernel without ipv6.disable=1, or leave it so"),
        ("quiet", None, "start a kernel that has IPv6, or leave it so"),
        (None, None, "start a kernel that has IPv6, or leave it so"),
        ("quiet", "1", f"sysctl -w {ON}; or leave it so"),
    ],
)
def test_the_hint_is_for_what_keeps_ipv6_off(
    root: Path, cmdline: str | None, setting: str | None, hint: str
) -> None:
    if cmdline is not None:
        (root / "cmdline").write_text(f"{cmdline}\n")
    if setting is not None:
        (root / "sys/net/ipv6/conf/default").mkdir(parents=True)
        (root / "sys/net/ipv6/conf/default/disable_ipv6").write_text(f"{setting}\n")
    me = joined(peer(2))
    assert me.known
    six = replace(me.known.view, addresses=("10.77.0.1", "fd00::1"))
    [problem] = desired(replace(me, known=replace(me.known, view=six)), {}, ()).problems
    assert (problem.code, problem.hint) == ("family-off", hint)


@pytest.mark.usefixtures("state_dir", "root")
def test_a_gateway_serves_the_family_that_its_kernel_has(monkeypatch: pytest.MonkeyPatch) -> None:
    """It forwards IPv4; that it does not forward IPv6 is nothing that a setting could change."""
    monkeypatch.setattr(tick, "has_tool", lambda _: True)
    monkeypatch.setattr(surroundings, "is_settled", lambda _: True)
    me = joined(peer(2))
    assert me.known
    gateway = Gateway(egress=Egress(("192.168.50.0/24",)), exit=Exit())
    view = replace(me.known.view, cidrs=("10.77.0.0/24", "fd77::/64"), gateway=gateway)
    assert tick.serves(replace(me, known=replace(me.known, view=view))) == "yes"
