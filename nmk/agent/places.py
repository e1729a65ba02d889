"""Where the agent keeps things."""

from __future__ import annotations

import os
from pathlib import Path


def state_directory() -> Path:
    """One JSON file a network: `NMK_STATE_DIR`, else /var/lib/nmk."""
    return Path(os.environ.get("NMK_STATE_DIR") or "/var/lib/nmk")


def runtime_directory() -> Path:
    """What need not outlive a reboot."""
    return Path("/run/nmk")


def config_directory() -> Path:
    """What the machine's owner wishes: `NMK_CONFIG_DIR`, else /etc/nmk."""
    return Path(os.environ.get("NMK_CONFIG_DIR") or "/etc/nmk")
