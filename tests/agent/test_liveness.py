"""When a gateway that fell silent counts as back."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from nmk.agent import liveness, status
from nmk.agent.membership import Wishes
from nmk.cli.cut_off import tell_cut_off
from nmk.core.gateways import Egress, Exit, Gateway, gateway_json
from nmk.core.tunnel import TunnelPeer
from nmk.system.dump import Dump, LivePeer
from tests.agent.memberships import joined, peer

GATEWAYS = [
    {**peer(n), "gateway": gateway_json(Gateway(egress=Egress(("192.168.7.0/24",), metric=n)))}
    for n in (2, 3)
]
FIRST = GATEWAYS[0]["id"]
ME = joined(*GATEWAYS)
Look = Callable[..., tuple[str, ...]]


@pytest.fixture
def look(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Look:
    """A look at two gateways, of which the first one was silent; the news."""
    monkeypatch.setenv("NMK_RUNTIME_DIR", str(tmp_path))
    silent = {"received": 1000, "sent": 5000, "unanswered": 1.0, "handshake": 7, "silent": True}
    (tmp_path / "home.gateways").write_text(json.dumps({FIRST: silent}))
    now = int(time.time())

    def at(received: int, handshakes: int) -> tuple[str, ...]:
        second = LivePeer(TunnelPeer(GATEWAYS[1]["key"], ()), now, 1, 1)
        first = replace(
            second,
            peer=replace(second.peer, key=GATEWAYS[0]["key"], endpoint="192.0.2.2:51821"),
            handshake=now + handshakes if handshakes else 7,
            received=received,
            sent=5000,
        )
        peers = {live.peer.key: live for live in (first, second)}
        return liveness.look(ME, Dump("", "", 51821, peers))

    return at


def test_a_handshake_alone_brings_no_gateway_back(look: Look) -> None:
    assert look(1092, 1) == ()
    assert liveness.dead("home") == {FIRST}
    assert look(1092, 1) == ()
    assert look(1124, 1) == ("peer-2 answers again",)
    assert liveness.dead("home") == set()


def test_nor_do_several(look: Look) -> None:
    """As where each end takes the keys of its own one, so that neither hears the other."""
    for number in range(1, 5):
        assert look(1000 + number * 92, number) == ()
    assert liveness.dead("home") == {FIRST}
    assert look(1500, 4) == ("peer-2 answers again",)


def test_what_was_never_silent_need_not_prove_anything(look: Look) -> None:
    look(1124, 1)
    look(1156, 1)
    assert look(1248, 2) == ()
    assert liveness.dead("home") == set()


@pytest.mark.usefixtures("state_dir")
def test_an_exit_node_chosen_after_a_long_silence_is_not_silent_at_once(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its last handshake is old, as there was nothing to say; keepalives begin with the choice."""
    now = int(time.time())
    old = LivePeer(
        TunnelPeer(GATEWAYS[0]["key"], (), 25, "192.0.2.2:51821"), now - 3600, 1000, 5000
    )
    dump = Dump("", "", 51821, {old.peer.key: old})
    monkeypatch.setattr(status, "live", lambda *_: ("up", dump))
    monkeypatch.setattr(status, "observe", lambda _, out, __: out)  # which asks the kernel
    way = {**GATEWAYS[0], "gateway": gateway_json(Gateway(exit=Exit()))}
    clock = 1000.0
    monkeypatch.setattr("nmk.agent.liveness.time.monotonic", lambda: clock)
    me = replace(joined(way), wishes=Wishes(settings={"exit-node": "peer-2"}))
    tell_cut_off(me, quiet=False)
    assert liveness.silent(me, dump) == set()
    assert liveness.look(me, dump) == ()
    tell_cut_off(me, quiet=False)
    assert capsys.readouterr().err == "", "as `nmk set` says it"
    clock += 5
    assert liveness.look(me, dump) == ("peer-2 fell silent",)
    tell_cut_off(me, quiet=False)
    assert "the exit node lets nothing out" in capsys.readouterr().err
