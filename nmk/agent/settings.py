"""What the machine's owner wishes; it wins over what the controller says.

In this order: environment (`NMK_MTU`), the network's file (`/etc/nmk/home.toml`), the machine's
file (`/etc/nmk/agent.toml`); a file holds lines such as `mtu = 1380`.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from nmk.agent.places import config_directory
from nmk.core.parse import quote
from nmk.core.settings import NETWORK_SETTINGS, find_setting
from nmk.errors import BadInput
from nmk.files import read_toml


def local_settings(network: str) -> dict[str, int]:
    """The machine's own settings for a network. Raises BadInput that names the file and the key."""
    directory = config_directory()
    return {
        **read_file(directory / "agent.toml"),
        **read_file(directory / f"{network}.toml"),
        **from_environment(os.environ),
    }


def from_environment(environment: Mapping[str, str]) -> dict[str, int]:
    """The settings in variables such as `NMK_LISTEN_PORT`."""
    found = {}
    for name, setting in NETWORK_SETTINGS.items():
        variable = "NMK_" + name.upper().replace("-", "_")
        if text := environment.get(variable):
            try:
                found[name] = setting.parse(text)
            except BadInput as error:
                raise BadInput(f"{variable}: {error.message}", error.hint) from None
    return found


def read_file(path: Path) -> dict[str, int]:
    """The settings in a file; none where there is no file."""
    content = read_toml(path)
    try:
        return {name: _parse(name, value) for name, value in content.items()}
    except BadInput as error:
        raise BadInput(f"{path}: {error.message}", error.hint) from None


def _parse(name: str, value: object) -> int:
    if not isinstance(value, (int, str)):
        raise BadInput(f"{quote(value)} cannot be the {quote(name)}")
    return find_setting(name).parse(value)
