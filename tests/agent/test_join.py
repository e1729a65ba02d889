from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from nmk.agent.heads import interface_for
from nmk.core.parse import parse_interface

labels = st.from_regex(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?", fullmatch=True)


@given(labels)
def test_an_interface_can_have_the_name(network: str) -> None:
    assert parse_interface(interface_for(network)).startswith("nmk-")


def test_long_names_stay_apart() -> None:
    assert interface_for("home") == "nmk-home"
    assert interface_for("eleven-char") == "nmk-eleven-char"
    one, other = interface_for("production-eu-west"), interface_for("production-eu-east")
    assert one != other
    assert one[:10] == other[:10] == "nmk-produc"
