"""What `scripts/docs` does: docs/cli.md, from the commands and the table of settings."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import click

ROOT = Path(__file__).resolve().parent.parent
TARGET = ROOT / "docs" / "cli.md"
WIDTH = 100

sys.path.insert(0, str(ROOT))

from nmk.cli.main import AREAS, nmk  # noqa: E402  # found by the line above
from nmk.core.settings import NETWORK_SETTINGS, WISHES, Setting, Wish  # noqa: E402  # the same

HEAD = """\
<!-- Written by scripts/docs from the commands themselves. Edit those, or scripts/docs.py. -->
# The command line

```
nmk VERB              something on this machine: nmk join, nmk status
nmk NOUN VERB [NAME]  something that the controller stores: nmk node list, nmk key create
```

- `-n NET` names the network. It can be left out where there is just one; `nmk checkin`, `status`,
  `doctor` and `log` take all that this machine is in.
- `-o json` prints every field, `-o name` one name a line. Data goes to standard output, everything
  else to standard error. On a terminal that is too narrow for a table the last columns go into
  lines under each row.
- `-q` keeps talk off standard error, so that only errors are left there; data is printed all the
  same. `nmk checkin -q` keeps quiet about errors that may pass, too.
- `--dry-run` shows what would be done.
- `ls` works for `list`, `rm` for `delete`, `revoke` for `nmk key delete`, and the plural of a noun
  for the noun.
- Exit codes: 0 done, 1 failed and a person is needed, 2 wrong usage, 75 try again later. All codes
  and messages: [errors.md](errors.md).
"""

SETTINGS = """
## Network settings
`nmk network set home mtu=1380` sets one for all machines of a network, from their next check-in
on. A machine's own word wins, see [nodes.md](nodes.md#settings-of-one-machine).

| setting | default | allowed | what | on one machine |
| --- | --- | --- | --- | --- |
"""

OWN_SETTINGS = """
## A machine's own settings
`sudo nmk set exit-node=home` on the machine, or a line in one of its files, or a variable. No
controller can set these. Which goes first: [nodes.md](nodes.md#settings-of-one-machine).

| setting | default | allowed | what | in a file, variable |
| --- | --- | --- | --- | --- |
"""

ENVIRONMENT = """
## Environment variables
An option wins over its variable. An empty variable counts as none.

| variable | commands | what |
| --- | --- | --- |
"""

OTHER_VARIABLES = """\
| `NMK_DATA_DIR` | an admin's, `nmk service` | where this host's controller has its socket |
| `NMK_API_KEY` | an admin's | the admin key, where `--server` is not the Unix socket |
| `NMK_JOIN_TOKEN` | `nmk join`, `install.sh join` | the join token |
| `NMK_STATE_DIR` | a machine's | its state, instead of `/var/lib/nmk` |
| `NMK_RUNTIME_DIR` | a machine's | what need not outlive a reboot, instead of `/run/nmk` |
| `NMK_CONFIG_DIR` | a machine's, `nmk server` | settings of its owner, instead of `/etc/nmk` |
| `NMK_DEBUG` | all | any text: a mistake in nmk ends with its traceback |
| `NMK_SOURCE` | `install.sh` | URL of the controller that the file `nmk` is fetched from |
| `WG_QUICK_USERSPACE_IMPLEMENTATION` | a machine's | the userspace WireGuard, as for wg-quick |
| `XDG_CACHE_HOME` | all, not as root | where the file unpacks itself, instead of `~/.cache` |

Those that a hook finds set: [hooks.md](hooks.md).
"""

FILES = """
## Files
| file | what |
| --- | --- |
| `/usr/local/bin/nmk` | the file, as `install.sh` puts it |
| `/var/cache/nmk/` | what the file unpacked, or `/run/nmk/`; for users `~/.cache/nmk/` |
| `/run/nmk/NET.trouble` | what `nmk checkin --quiet` has told of already |
| `/run/nmk/NET.health` | how the last check-ins went |
| `/run/nmk/agent.sock` | by it a command wakes `nmk agent` |
| `/run/nmk/instance` | which start of this machine it is, to tell copies of it apart |
| `/run/nmk/NET.ruleset` | a checksum of the packet filter as nmk has put it in place |
| `/run/nmk/NET.link` | the number of the interface, by which it is found when it was renamed |
| `/run/nmk/hooks.turn` | empty; its lock says whose [hooks](hooks.md) come last |
| `/run/nmk/NET.gateways` | which of several gateways for one range do not answer |
| `/var/lib/nmk/NET.json` | a machine's state in a network: identity, keys, the last view. Secret |
| `/var/lib/nmk/NET.kill-switch` | whether a kill switch was wanted last: told when no state is |
| `/var/lib/nmk/NET.log` | what `nmk log` shows |
| `/etc/nmk/NET.toml` | the owner's settings for one network of this machine |
| `/etc/nmk/agent.toml` | the owner's settings for all of them |
| `/etc/nmk/hooks/` | the owner's [hooks](hooks.md) |
| `/etc/nmk/server.toml` | options of `nmk server` |
| `/etc/cron.d/nmk` | the check-ins, where cron does them |
| `/etc/systemd/system/nmk-*.service`, `/etc/init.d/nmk-*` | what `nmk service install` makes |
| `/var/log/nmk-*.log` | what services of OpenRC say |
| `/var/lib/nmk/server/` | a controller: see [controller.md](controller.md#the-data-directory) |
| `/var/lib/nmk/server/nmk.db.schemaN` | the SQLite database before it got a newer schema than N |
| `*.conf.taken-over` | the file of a [hub taken over](phones.md#taking-over-a-hub). Secret |
"""


def render() -> str:
    """The whole page."""
    root = click.Context(nmk, info_name="nmk", terminal_width=WIDTH, **nmk.context_settings)
    commands = "".join(
        f"\n## {area}\n" + "".join(render_command(c) for c in walk(root, names))
        for area, names in AREAS.items()
    )
    settings = "".join(render_setting(s) for s in NETWORK_SETTINGS.values())
    own = "".join(render_wish(w) for w in WISHES.values())
    variables = "".join(render_variables(root)) + OTHER_VARIABLES
    tables = SETTINGS + settings + OWN_SETTINGS + own + ENVIRONMENT + variables
    return HEAD + commands + tables + FILES


def walk(parent: click.Context, names: tuple[str, ...]) -> Iterator[click.Context]:
    """Contexts of the commands of those names and of the ones below them."""
    group = parent.command
    assert isinstance(group, click.Group)
    for name in names:
        command = group.get_command(parent, name)
        assert command is not None, name
        context = click.Context(
            command,
            info_name=name,
            parent=parent,
            terminal_width=WIDTH,
            **command.context_settings,
        )
        yield context
        if isinstance(command, click.Group):
            yield from walk(context, tuple(command.list_commands(context)))


def render_command(context: click.Context) -> str:
    """A command's help page."""
    return f"\n### {context.command_path}\n```text\n{context.get_help()}\n```\n"


def render_setting(setting: Setting) -> str:
    """A row of the settings' table."""
    allowed = f"{setting.low}-{setting.high}" + (", 0" if setting.zero else "")
    return (
        f"| `{setting.name}` | {setting.default} | {allowed} {setting.unit} | {setting.help} "
        f"| `{setting.name} = {setting.default}`, `{variable_of(setting.name)}` |\n"
    )


def render_wish(wish: Wish) -> str:
    """A row for a setting that only the owner of a machine has."""
    allowed = ", ".join(wish.choices) or "a node's name, or nothing"
    default = wish.default or "nothing"
    line = f'{wish.name} = "{(wish.choices or ("home",))[0]}"'
    return (
        f"| `{wish.name}` | {default} | {allowed} | {wish.help} "
        f"| `{line}`, `{variable_of(wish.name)}` |\n"
    )


def render_variables(root: click.Context) -> Iterator[str]:
    """Rows for the variables of options; one row for those of several commands."""
    users: dict[tuple[str, str], list[str]] = {}
    for context in walk(root, tuple(nmk.list_commands(root))):
        for param in context.command.params:
            for variable in variables_of(context, param):
                what = f"`{param.opts[-1]}`"
                users.setdefault((variable, what), []).append(f"`{context.command_path}`")
    for (variable, what), paths in sorted(users.items()):
        where = ", ".join(paths) if len(paths) < 4 else f"{len(paths)} of them"
        yield f"| `{variable}` | {where} | {what} |\n"


def variables_of(context: click.Context, param: click.Parameter) -> list[str]:
    """The environment variables of an option."""
    if param.envvar:
        return [param.envvar] if isinstance(param.envvar, str) else list(param.envvar)
    prefix = context.command.context_settings.get("auto_envvar_prefix")
    return [f"{prefix}_{str(param.name).upper()}"] if prefix else []


def variable_of(setting: str) -> str:
    """The variable that sets it on one machine."""
    return "NMK_" + setting.upper().replace("-", "_")


def main() -> int:
    """Write the page, or with --check compare it."""
    page = render()
    if sys.argv[1:] == ["--check"]:
        if TARGET.exists() and TARGET.read_text(encoding="utf-8") == page:
            return 0
        sys.stderr.write("docs: docs/cli.md is not current\n  try: scripts/docs\n")
        return 1
    TARGET.write_text(page, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
