"""A model of one WireGuard interface and the commands that change it, from their man pages.

It refuses what it does not know. `wg` (wg(8)): a peer in a file gets the file's allowed-ips, which
any other peer loses; `syncconf` removes peers that are not in the file, and a mark that is not in
it. A peer that was there keeps its endpoint and its preshared key where the file has none (tried
with wg 1.0.20210914): only a key of zeros takes a key away. `ip` (ip-address(8)): an IPv4 address
beside an older one of the same subnet is a secondary one, and goes with the older one
(net.ipv4.conf.*.promote_secondaries is 0 by default).
"""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_interface

from nmk.core.tunnel import NO_KEY, Command, Tunnel, TunnelPeer

CREATE = ("ip", "link", "add", "dev", "nmk-home", "type", "wireguard")
_INTERFACE = {"section", "PrivateKey", "ListenPort", "FwMark"}
_PEER = {"section", "PublicKey", "AllowedIPs", "Endpoint", "PersistentKeepalive", "PresharedKey"}


class Machine:
    """The interface as `probe` would find it: None until it is created."""

    def __init__(self, live: Tunnel | None = None) -> None:
        self.live = live

    def run(self, command: Command) -> None:
        match command.argv:
            case argv if argv == CREATE:
                assert self.live is None
                self.live = Tunnel("nmk-home", "", 0, 1420, (), {}, up=False, mark=0)
            case ("wg", "syncconf" | "addconf" as verb, "nmk-home", "/dev/stdin"):
                self._wg(command.stdin or "", whole=verb == "syncconf")
            case ("ip", "-force", "-batch", "-"):
                for line in (command.stdin or "").splitlines():
                    self._ip(line.split())
            case _:
                raise AssertionError(f"no such command: {command}")

    def roam(self, key: str, endpoint: str) -> None:
        """A peer's packets come from another address."""
        live = self._here()
        self._put_peer(replace(live.peers[key], endpoint=endpoint))

    def _here(self) -> Tunnel:
        assert self.live is not None, "no such interface"
        return self.live

    def _wg(self, text: str, *, whole: bool) -> None:
        sections = parse_config(text)
        live = self._here()
        if whole:
            [interface] = [s for s in sections if s["section"] == "Interface"]
            assert interface.keys() <= _INTERFACE, f"line unrecognized: {interface}"
            names = {s["PublicKey"] for s in sections if s["section"] == "Peer"}
            self.live = replace(
                live,
                private_key=interface["PrivateKey"],
                listen_port=int(interface["ListenPort"]),
                mark=int(interface.get("FwMark", "0"), 16),
                peers={k: p for k, p in live.peers.items() if k in names},
            )
        for section in sections:
            if section["section"] == "Peer":
                self._add_peer(section)

    def _add_peer(self, section: dict[str, str]) -> None:
        assert section.keys() <= _PEER, f"line unrecognized: {section}"
        live = self._here()
        ranges = tuple(sorted(section["AllowedIPs"].split(", ")))
        for other in list(live.peers.values()):
            if other.key != section["PublicKey"]:
                left = tuple(r for r in other.allowed_ips if r not in ranges)
                self._put_peer(replace(other, allowed_ips=left))
        before = live.peers.get(section["PublicKey"])
        shared = section.get("PresharedKey", before.preshared_key if before else "")
        self._put_peer(
            TunnelPeer(
                key=section["PublicKey"],
                allowed_ips=ranges,
                keepalive=int(section["PersistentKeepalive"]),
                endpoint=section.get("Endpoint", before.endpoint if before else None),
                preshared_key="" if shared == NO_KEY else shared,
            )
        )

    def _put_peer(self, peer: TunnelPeer) -> None:
        live = self._here()
        self.live = replace(live, peers={**live.peers, peer.key: peer})

    def _ip(self, words: list[str]) -> None:
        live = self._here()
        match words:
            case ["address", "add", address, "dev", "nmk-home"]:
                assert address not in live.addresses, "RTNETLINK answers: File exists"
                assert ":" not in address or live.mtu >= 1280, "RTNETLINK answers: Invalid argument"
                self.live = replace(live, addresses=(*live.addresses, address))
            case ["address", "del", address, "dev", "nmk-home"]:
                self.live = replace(live, addresses=without(live.addresses, address))
            case ["link", "set", "dev", "nmk-home", "mtu", mtu, "up"]:
                self.live = replace(live, mtu=int(mtu), up=True)
            case _:
                raise AssertionError(f"no such line: {words}")


def without(addresses: tuple[str, ...], gone: str) -> tuple[str, ...]:
    """What is left when an address is removed, secondary ones gone with it."""
    place = addresses.index(gone)
    subnet = ip_interface(gone).network
    is_secondary = any(ip_interface(a).network == subnet for a in addresses[:place])
    if ":" in gone or is_secondary:
        return addresses[:place] + addresses[place + 1 :]
    return tuple(a for a in addresses if ip_interface(a).network != subnet)


def parse_config(text: str) -> list[dict[str, str]]:
    """The sections of a wg(8) configuration file, its section's name under "section"."""
    sections: list[dict[str, str]] = []
    for line in filter(None, text.splitlines()):
        if line.startswith("["):
            sections.append({"section": line.strip("[]")})
            continue
        name, equals, value = line.partition(" = ")
        assert equals, f"line unrecognized: {line}"
        sections[-1][name] = value
    return sections
