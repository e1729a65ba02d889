"""The agent's half of a check-in against the controller's own code."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from nmk.agent.api import Answer, NodeApi
from nmk.agent.membership import Membership, take_in
from nmk.agent.tick import api_of, check_in, collect_facts
from nmk.core.decisions import JoinRequest
from nmk.core.records import Facts
from nmk.errors import BadView, NodeDeleted
from nmk.wire.messages import CheckIn
from tests.agent.controllers import RealController
from tests.agent.memberships import full_view, joined, joining, peer

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


def test_a_deleted_node_hears_it_under_seal(controller: RealController, member: Membership) -> None:
    controller.admin.delete_node(controller.edit, "home", "web")
    with pytest.raises(NodeDeleted):
        check_in(member, api_of(member), facts_of(member))


class Scripted(NodeApi):
    """Gives these answers, one a request; notes where the requests say that they stand."""

    def __init__(self, me: Membership, *answers: object) -> None:
        super().__init__(me.urls, me.controller_key, me.identity, me.network, "nowhere")
        self.answers = [json.loads(json.dumps(a)) for a in answers]
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
