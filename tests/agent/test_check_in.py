"""The agent's half of a check-in against the controller's own code."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from nmk.agent.api import Answer, NodeApi
from nmk.agent.exchange import check_in
from nmk.agent.membership import Membership, decode, encode, take_in
from nmk.agent.tick import api_of, collect_facts
from nmk.core.peers import read_reply
from nmk.core.records import Facts, JoinRequest
from nmk.errors import BadView, NodeDeleted
from nmk.server.ext_clients import ExtClients
from nmk.server.gateways import Gateways
from nmk.wire.messages import CheckIn
from tests.agent.controllers import RealController
from tests.agent.memberships import full_view, joined, joining, peer
from tests.core.made import key32

pytestmark = pytest.mark.usefixtures("state_dir")


@pytest.fixture
def member(controller: RealController) -> Membership:
    return register(controller, "web")


def register(controller: RealController, name: str) -> Membership:
    token = controller.token()
    me = joining(urls=token.urls, controller_key=token.controller_key)
    facts = collect_facts(me, {})
    request = JoinRequest("", token.key_id, token.secret, name, "host", None, facts)
    me = take_in(me, api_of(me).join(request).result())
    return replace(me, phase="joined", reported=facts)


def facts_of(me: Membership) -> Facts:
    return collect_facts(me, {})


def node(controller: RealController, name: str = "web") -> dict[str, object]:
    return controller.admin.show_node("home", name)


def test_nothing_changed(member: Membership) -> None:
    me = check_in(member, api_of(member), facts_of(member))
    assert check_in(me, api_of(me), facts_of(me)) == me


def test_a_new_peer_comes_with_the_next_one(controller: RealController, member: Membership) -> None:
    register(controller, "db")
    me = check_in(member, api_of(member), facts_of(member))
    assert me.known
    assert [p.name for p in me.known.view.peers.values()] == ["db"]


def test_news_is_reported_once(controller: RealController, member: Membership) -> None:
    news = replace(facts_of(member), listen_port=60000)
    me = check_in(member, api_of(member), news)
    assert node(controller)["listen_port"] == 60000
    assert (me.reported, me.seq) == (news, 1)
    assert check_in(me, api_of(me), news) == me


def test_a_dry_run_reports_nothing(controller: RealController, member: Membership) -> None:
    check_in(member, api_of(member), replace(facts_of(member), listen_port=60000), dry=True)
    assert node(controller)["listen_port"] == 51821


def test_a_lost_reply_is_made_up_for(controller: RealController, member: Membership) -> None:
    """Here as it is when nothing was saved after the controller had taken the report in."""
    check_in(member, api_of(member), replace(facts_of(member), listen_port=60000))
    me = check_in(member, api_of(member), replace(facts_of(member), listen_port=60001))
    assert node(controller)["listen_port"] == 60001
    assert me.seq == 2


def test_a_disk_rolled_back_reports_again(controller: RealController, member: Membership) -> None:
    """The old state has the present facts as reported, and the controller has others."""
    check_in(member, api_of(member), replace(facts_of(member), listen_port=60000))
    me = check_in(member, api_of(member), facts_of(member))
    assert node(controller)["listen_port"] == 51821
    assert me.seq == 2


@pytest.fixture
def with_phone(controller: RealController, member: Membership) -> Membership:
    """The member as it stands when it has become an ingress gateway, with an ext client."""
    role = {"node": "web", "role": "ingress", "ranges": [], "endpoint": "192.0.2.1:51821"}
    Gateways(controller.core).add_gateway(controller.edit, "home", role)
    phone = {"name": "phone", "public_key": key32(1, kind=9)}
    ExtClients(controller.core).create_client(controller.edit, "home", phone)
    return check_in(member, api_of(member), facts_of(member))


def test_a_gateway_is_told_of_its_role_and_its_clients(with_phone: Membership) -> None:
    assert with_phone.known
    view = with_phone.known.view
    assert view.gateway.roles == ("ingress",)
    assert [(c.name, c.key, c.via) for c in view.clients.values()] == [
        ("phone", key32(1, kind=9), with_phone.id)
    ]


def test_a_client_that_is_deleted_is_forgotten(
    controller: RealController, with_phone: Membership
) -> None:
    ExtClients(controller.core).delete_client(controller.edit, "home", "phone")
    me = check_in(with_phone, api_of(with_phone), facts_of(with_phone))
    assert me.known
    assert me.known.view.clients == {}


def test_who_comes_from_0_1_0_learns_what_that_did_not_keep(with_phone: Membership) -> None:
    """It passed over the ext clients that it was told of, and stood where the controller does."""
    content = json.loads(encode(with_phone))
    del content["known"]["view"]["clients"]
    before = decode(json.dumps(content).encode(), "home", "home.json")
    after = check_in(before, api_of(before), facts_of(before))
    assert after.known
    assert with_phone.known
    assert after.known.view.clients == with_phone.known.view.clients


def test_a_deleted_node_hears_it_under_seal(controller: RealController, member: Membership) -> None:
    controller.admin.delete_node(controller.edit, "home", "web")
    with pytest.raises(NodeDeleted):
        check_in(member, api_of(member), facts_of(member))


class Scripted(NodeApi):
    """Gives these answers, one a request; notes where the requests say that they stand."""

    def __init__(self, me: Membership, *answers: object) -> None:
        super().__init__(me.urls, me.controller_key, me.identity, me.network, "nowhere")
        self.answers = [read_reply(json.dumps(a).encode()) for a in answers]
        self.asked: list[int] = []

    def check_in(self, epoch: bytes, message: CheckIn) -> Answer:
        assert len(epoch) == 8
        self.asked.append(message.revision)
        return Answer(self.answers.pop(0))


def test_a_delta_that_does_not_fit_is_replaced_by_a_full_view() -> None:
    me = joined(peer(2))
    wrong = full_view(me, peer(2) | {"id": peer(3)["id"]}) | {"full": False}
    api = Scripted(me, wrong, full_view(me, peer(4)))
    assert me.reported
    after = check_in(me, api, me.reported)
    assert after.known
    assert list(after.known.view.peers) == [peer(4)["id"]]
    assert api.asked == [7, 0]


def test_a_full_view_that_does_not_fit_is_refused() -> None:
    me = joined(peer(2))
    wrong = full_view(me, peer(2), peer(2) | {"id": peer(3)["id"]})
    api = Scripted(me, wrong)
    assert me.reported
    with pytest.raises(BadView):
        check_in(me, api, me.reported)
