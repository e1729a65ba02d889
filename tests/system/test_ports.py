from __future__ import annotations

import socket

import pytest

from nmk.errors import PortTaken
from nmk.system import ports


def test_a_port_in_use_is_not_free() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as holder:
        holder.bind(("0.0.0.0", 0))
        port = holder.getsockname()[1]
        assert not ports.is_free(port)
        assert ports.next_free(port) > port
    assert ports.is_free(port)


def test_a_port_in_use_on_ipv6_alone_is_not_free() -> None:
    with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as holder:
        holder.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        holder.bind(("::", 0))
        assert not ports.is_free(holder.getsockname()[1])


def test_none_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ports, "is_free", lambda _: False)
    with pytest.raises(PortTaken, match="65000"):
        ports.next_free(65000)
