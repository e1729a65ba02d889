"""What `nmk doctor` looks at where a controller is."""

from __future__ import annotations

from pathlib import Path

from nmk import __version__
from nmk.agent.service import outdated
from nmk.cli.api import AdminApi
from nmk.cli.key import reach_warning
from nmk.cli.where import start_command
from nmk.core.findings import Finding
from nmk.errors import NmkError


def check_own_controller(data: Path) -> list[Finding]:
    """The controller of this host, by its data directory; nothing where there is none."""
    if not (data / "controller.key").exists():
        return []
    api = AdminApi(f"unix://{data / 'admin.sock'}", None)
    try:
        status = api.call("GET", "/status")
    except NmkError as error:
        reason = f"the controller of {data} does not answer: {error.message}"
        return [Finding("server", "broken", reason, start_command())]
    restarts = [restart for _, restart in outdated("server")]
    if status["version"] != __version__ or restarts:
        reason = f"the controller that runs is {status['version']}, this nmk is {__version__}"
        if status["version"] == __version__:
            reason = (
                "the controller that runs is another nmk than this: the file was replaced since"
            )
        return [Finding("server", "warn", reason, "; ".join(restarts) or "restart the controller")]
    urls = ", ".join(status["urls"])
    there = f"networks: {status['networks']}, nodes: {status['nodes']}"
    if lines := reach_warning(status["urls"]):
        return [Finding("server", "warn", lines[0].removeprefix("note: "), lines[1].strip())]
    return [Finding("server", "ok", f"{there}; machines reach it at {urls}")]
