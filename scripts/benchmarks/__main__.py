"""The command behind `scripts/bench`."""

from scripts.benchmarks.agents import AGENT
from scripts.benchmarks.changes import CHANGE
from scripts.benchmarks.checkins import CHECK_INS
from scripts.benchmarks.clients import CLIENTS
from scripts.benchmarks.command import make_command
from scripts.benchmarks.commits import COMMITS
from scripts.benchmarks.hostile import HOSTILE
from scripts.benchmarks.joins import JOINING
from scripts.benchmarks.memory import MEMORY
from scripts.benchmarks.stage import open_stage
from scripts.benchmarks.strangers import STRANGERS
from scripts.benchmarks.tunnels import TUNNELS
from scripts.benchmarks.views import VIEWS

GROUPS = (
    *MEMORY,
    CHECK_INS,
    CHANGE,
    COMMITS,
    JOINING,
    VIEWS,
    AGENT,
    HOSTILE,
    TUNNELS,
    CLIENTS,
    STRANGERS,
)

bench = make_command(GROUPS, open_stage)

if __name__ == "__main__":
    bench(prog_name="scripts/bench")
