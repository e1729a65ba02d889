"""Programs of a host, watched: what they are called with, and what happens when one fails."""

from __future__ import annotations

from tests.lab import Host, poll

LOG = "/run/spy/calls"
FAIL_AT = "/run/spy/fail-at"
KILL_AT = "/run/spy/kill-at"
GATE = "/run/spy/gate"

WRAPPER = f"""\
#!/bin/sh
echo "{{name}} $*" >>{LOG}
number=$(wc -l <{LOG})
if [ -p {GATE} ]; then cat {GATE} >/dev/null; fi
if [ "$number" = "$(cat {FAIL_AT})" ]; then echo "{{name}} has no mood" >&2; exit 1; fi
if [ "$number" = "$(cat {KILL_AT})" ]; then kill -KILL "$PPID"; exit 1; fi
exec {{real}} "$@"
"""


class Spy:
    """Stands before programs of a host, for good."""

    def __init__(self, host: Host, *programs: str) -> None:
        self.host = host
        for name in programs:
            *_, real = host.run("which", "-a", name).stdout.split()
            script = WRAPPER.format(name=name, real=real)
            host.write(f"/usr/local/sbin/{name}", script, mode=0o755)
        self.clear()

    def clear(self, *, fail_at: int = 0, kill_at: int = 0) -> None:
        """Forget all calls, and let the n-th one from now on fail, or kill who calls."""
        for path, content in ((LOG, ""), (FAIL_AT, f"{fail_at}\n"), (KILL_AT, f"{kill_at}\n")):
            self.host.write(path, content)

    def calls(self) -> list[str]:
        """All calls since the last `clear`: the program's name and its arguments."""
        return self.host.read(LOG).splitlines()

    def close_gate(self) -> None:
        """Hold up the next call until `open_gate`."""
        self.host.run("mkfifo", GATE)

    def wait_at_gate(self) -> None:
        """Wait until a call is held up."""
        poll(self.calls, 10, "call at the gate")

    def open_gate(self) -> None:
        """Let the call that is held up go on, and all others."""
        self.host.run("sh", "-c", f"echo >{GATE}; rm {GATE}")
