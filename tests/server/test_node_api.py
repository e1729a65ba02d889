"""What an agent built from nmk.wire alone gets from the real controller over HTTP."""

from __future__ import annotations

from dataclasses import replace

import pytest

from nmk.core.records import PROTOCOL
from nmk.wire.envelope import Kind
from nmk.wire.token import parse_token
from tests.hostile.stranger import forged
from tests.server.agent import Agent, Refused, new_facts
from tests.server.process import Controller

PATHS = ["/v1/join", "/v1/checkin", "/v1/leave"]


@pytest.fixture
def agent(shared: Controller, network: str) -> Agent:
    """A machine with a token for a network of its own."""
    return new_agent(shared, network)


def new_agent(controller: Controller, network: str, **key: object) -> Agent:
    made = controller.admin_call("POST", f"/v1/networks/{network}/keys", key).json
    return Agent(lambda path, body: post(controller, path, body), parse_token(made["token"]))


def post(controller: Controller, path: str, body: bytes) -> bytes:
    answer = controller.agent_call("POST", path, body)
    assert answer.status == 200, answer.body
    return answer.body


def nodes(controller: Controller, network: str) -> list[dict[str, object]]:
    found: list[dict[str, object]] = controller.admin_call(
        "GET", f"/v1/networks/{network}/nodes"
    ).json
    return found


def uses(controller: Controller, network: str) -> list[int]:
    keys = controller.admin_call("GET", f"/v1/networks/{network}/keys").json
    return [key["uses"] for key in keys]


def test_a_machine_joins_and_is_told_all(shared: Controller, agent: Agent, network: str) -> None:
    view = agent.join(name="web")
    assert view["full"]
    assert (view["self"]["name"], view["self"]["id"]) == ("web", agent.id)
    [node] = nodes(shared, network)
    assert node["addresses"] == view["self"]["addresses"]
    assert (node["name"], node["state"]) == ("web", "healthy")
    assert uses(shared, network) == [1]


def test_the_same_join_again_is_the_same_node(
    shared: Controller, agent: Agent, network: str
) -> None:
    first, second = agent.join(), agent.join()
    assert first["self"] == second["self"]
    assert len(nodes(shared, network)) == 1
    assert uses(shared, network) == [1]


@pytest.mark.parametrize(("protocol", "state"), [(PROTOCOL, "doubled"), (1, "healthy")])
def test_a_machine_whose_agent_is_another_version_is_no_copy(
    shared: Controller, agent: Agent, network: str, protocol: int, state: str
) -> None:
    """Each tells in its own way where it runs, and both do while a machine is upgraded."""
    agent.join()
    ours = replace(agent.facts, protocol=PROTOCOL)
    for _ in range(2):
        for facts in (replace(ours, instance="a"), replace(ours, instance="b", protocol=protocol)):
            agent.facts = facts
            agent.check_in(report=True)
    assert [node["state"] for node in nodes(shared, network)] == [state]


def test_a_member_that_joins_again_and_again_is_not_told_of_each_time(
    shared: Controller, agent: Agent, network: str
) -> None:
    for _ in range(8):
        agent.join()
    events = [e["event"] for e in shared.events() if e.get("network") == network]
    assert events.count("joined") == 1
    assert events.count("joined-again") <= 2  # one a minute, of all


def test_who_is_up_to_date_is_told_so_in_a_few_bytes(shared: Controller, agent: Agent) -> None:
    assert agent.join()["peers"] == []  # they come with the first check-in
    assert agent.check_in()["full"]
    assert agent.check_in() == {"at": list(agent.at[1:])}
    assert len(shared.agent_call("POST", *agent.sent[-1]).body) < 100


def test_a_change_arrives_as_a_delta(shared: Controller, agent: Agent, network: str) -> None:
    agent.join()
    agent.check_in()
    other = new_agent(shared, network)
    other.join(name="other")
    delta = agent.check_in()
    assert not delta["full"]
    [[entry]] = delta["peers"]
    assert (entry["name"], entry["id"]) == ("other", other.id)
    other.leave()
    assert agent.check_in()["gone"] == [other.id]
    assert "full" not in agent.check_in()


def test_settings_arrive_with_the_next_check_in(
    shared: Controller, agent: Agent, network: str
) -> None:
    agent.join()
    shared.admin_call("PATCH", f"/v1/networks/{network}", {"settings": {"mtu": 1380}})
    assert agent.check_in()["network"]["mtu"] == 1380


@pytest.mark.parametrize(
    "at", [("00" * 8, 1, "x"), ("", 10**6, "x"), ("", 1, "x"), ("", 1, ""), ("", 0, "")]
)
def test_an_agent_from_another_past_gets_a_full_view(
    agent: Agent, at: tuple[str, int, str]
) -> None:
    view = agent.join()
    agent.at = (at[0] or view["epoch"], *at[1:])
    assert agent.check_in()["full"]
    assert "full" not in agent.check_in()


def test_a_report_is_taken_in_once(shared: Controller, agent: Agent, network: str) -> None:
    agent.join()
    agent.facts = replace(agent.facts, listen_port=40000)
    assert agent.check_in(report=True)["self"]["seq"] == 1
    assert nodes(shared, network)[0]["listen_port"] == 40000
    agent.seq = 0  # as after a disk was put back in time
    with pytest.raises(Refused) as refused:
        agent.check_in(report=True)
    assert (refused.value.code, refused.value.data["seq"]) == ("stale-sequence", 1)
    agent.seq = refused.value.data["seq"]
    assert agent.check_in(report=True)["self"]["seq"] == 2


def test_a_node_that_left_is_gone_for_good(shared: Controller, agent: Agent, network: str) -> None:
    agent.join()
    agent.leave()
    assert nodes(shared, network) == []
    for ask in (agent.check_in, agent.leave, agent.join):
        with pytest.raises(Refused) as refused:
            ask()
        assert refused.value.code == "node-deleted"


def test_a_node_that_an_admin_deleted_is_told_under_seal(
    shared: Controller, agent: Agent, network: str
) -> None:
    agent.join(name="web")
    agent.check_in()
    shared.admin_call("DELETE", f"/v1/networks/{network}/nodes/web")
    with pytest.raises(Refused) as refused:
        agent.check_in()
    assert refused.value.code == "node-deleted"


def test_who_was_never_here_is_told_under_seal(agent: Agent) -> None:
    for ask in (agent.check_in, agent.leave):
        with pytest.raises(Refused) as refused:
            ask()
        assert refused.value.code == "node-unknown"
    agent.token = replace(agent.token, network="nowhere")
    with pytest.raises(Refused) as refused:
        agent.check_in()
    assert refused.value.code == "node-unknown"


@pytest.mark.parametrize(
    ("token", "code"),
    [
        ({"secret": bytes(32)}, "key-refused"),
        ({"key_id": "unknown"}, "key-refused"),
        ({"network": "nowhere"}, "key-refused"),
    ],
)
def test_a_token_that_lets_nobody_in(agent: Agent, token: dict[str, object], code: str) -> None:
    agent.token = replace(agent.token, **token)  # type: ignore[arg-type]  # each of its own type
    with pytest.raises(Refused) as refused:
        agent.join()
    assert refused.value.code == code


def test_a_key_for_one_lets_in_one(shared: Controller, agent: Agent, network: str) -> None:
    agent.join()
    second = Agent(agent.post, agent.token)
    with pytest.raises(Refused) as refused:
        second.join()
    assert refused.value.code == "key-used-up"
    assert len(nodes(shared, network)) == 1


def test_a_wish_that_cannot_be_is_quoted_under_seal(agent: Agent) -> None:
    for wish in ({"name": "No Label"}, {"address": "203.0.113.1"}):
        with pytest.raises(Refused, match=next(iter(wish.values()))) as refused:
            agent.join(**wish)
        assert refused.value.code == "bad-input"
    agent.facts = replace(agent.facts, listen_port=99999)
    with pytest.raises(Refused, match="99999"):
        agent.join()


def test_recordings_change_nothing(shared: Controller, agent: Agent, network: str) -> None:
    agent.join(name="web")
    agent.check_in()
    for port in (40000, 40001):
        agent.facts = replace(agent.facts, listen_port=port)
        agent.check_in(report=True)
    before = nodes(shared, network), uses(shared, network)
    for path, message in [*agent.sent, *reversed(agent.sent)]:
        assert shared.agent_call("POST", path, message).status == 200
    assert without_last_seen(nodes(shared, network)) == without_last_seen(before[0])
    assert uses(shared, network) == before[1]


def without_last_seen(found: list[dict[str, object]]) -> list[dict[str, object]]:
    return [{k: v for k, v in node.items() if k != "last_seen"} for node in found]


def test_two_networks_do_not_mix(shared: Controller, agent: Agent, network: str) -> None:
    """One identity in two networks, as only a machine that breaks the rules has it."""
    agent.join(name="web")
    shared.admin_call("POST", "/v1/networks", {"name": f"{network}-2"})
    second = new_agent(shared, f"{network}-2")
    second.identity, second.facts = agent.identity, new_facts()
    second.join(name="web")
    second.leave()
    assert agent.check_in()
    assert [n["name"] for n in nodes(shared, network)] == ["web"]


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("body", [b"", b"x", b"nmk1", b"nmk1" + bytes(200), b"\xff" * 5000])
def test_garbage_is_answered_in_clear(shared: Controller, path: str, body: bytes) -> None:
    answer = shared.agent_call("POST", path, body)
    assert (answer.status, answer.code) == (400, "unreadable")


def test_another_controllers_token_is_answered_in_clear(agent: Agent) -> None:
    from nmk.wire.envelope import Identity

    agent.token = replace(agent.token, controller_key=Identity.generate().public)
    with pytest.raises(AssertionError, match="unreadable"):
        agent.join()


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/", 404, "not-found"),
        ("POST", "/v1/nothing", 404, "not-found"),
        ("GET", "/v1/networks", 404, "not-found"),  # the admin's API is not here
        ("GET", "/%00%ff", 404, "not-found"),
        ("GET", "/v1/join", 405, "method-not-allowed"),
        ("PUT", "/v1/checkin", 405, "method-not-allowed"),
        ("POST", "/healthz", 405, "method-not-allowed"),
    ],
)
def test_other_requests_are_refused(
    shared: Controller, method: str, path: str, status: int, code: str
) -> None:
    answer = shared.agent_call(method, path)
    assert (answer.status, answer.code) == (status, code)


def test_a_message_that_is_too_large_is_refused(shared: Controller) -> None:
    announced = {"Content-Length": "300000"}
    assert shared.agent_call("POST", "/v1/join", None, announced).status == 413


def test_health(shared: Controller) -> None:
    answer = shared.agent_call("GET", "/healthz")
    assert (answer.status, answer.body) == (200, b"ok\n")
    head = shared.agent_call("HEAD", "/healthz")
    assert (head.status, head.body) == (200, b"")


def test_strangers_are_held_back_and_nodes_are_not(shared: Controller, agent: Agent) -> None:
    """The last test here: it uses up what strangers at this address may ask."""
    agent.join()
    path, message = forged(agent.token, Kind.CHECK_IN)
    statuses = [shared.agent_call("POST", path, message).status for _ in range(400)]
    assert set(statuses) == {200, 429}
    refused = shared.agent_call("POST", path, message)
    assert (refused.status, refused.code) == (429, "rate-limited")
    assert "at" in agent.check_in()
