"""What a network needs beside its interface: packet filter, kernel settings, routes.

Each kind is looked at only where it is wanted or may have been laid before, or the state does not
tell, and it is told from what others lay. What is about to be laid is on disk first, so that a
crash leaves nothing that the next run does not know of.
"""

from __future__ import annotations

import errno
from contextlib import suppress
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path

from nmk.agent import own_place, state
from nmk.agent.attempts import Attempts
from nmk.agent.kernel_settings import (
    SETTLED,
    Settings,
    plan_settings,
    stops_forwarding,
    write_settings,
)
from nmk.agent.membership import Kind, Membership
from nmk.agent.places import make_runtime_directory, runtime_directory
from nmk.agent.unmarked import leave_out_exit, why_unmarked, without_mark
from nmk.core import kill_chains
from nmk.core.commands import command as shell
from nmk.core.docker import plan_docker
from nmk.core.firewall import Table
from nmk.core.route_table import (
    NO_ORDER,
    NO_TABLE,
    RouteTable,
    describe_table,
    plan_table,
    removals,
)
from nmk.core.ruleset import is_ours, table_name
from nmk.core.surroundings import (
    IPV4_FORWARDING,
    IPV6_FORWARDING,
    Surroundings,
    without_exit,
)
from nmk.core.tunnel import Change, Command
from nmk.errors import (
    CommandFailed,
    NmkError,
    NoteUnwritable,
    OpenForwarding,
    OpenLoopback,
    ToolMissing,
)
from nmk.files import read_file, write_private
from nmk.system import filter as packet_filter
from nmk.system import routes, sysctl
from nmk.system.firewall import read_tables
from nmk.system.runner import Runner
from nmk.tools import has_tool

_MOST_DIGEST = 256  # bytes
_unwritten: dict[Path, bytes] = {}  # digests that could not be written to their files
_SHUT = b" shut"
RENEW = "renew the packet filter"
_KINDS: tuple[Kind, ...] = ("filter", "routes", "docker")
_TOLD_APART: frozenset[Kind] = frozenset({"filter", "routes"})  # from what the owner has laid


@dataclass(frozen=True, slots=True)
class Work:
    """What is to be done about a network's surroundings; `changes` are its lines for people.

    `table`: the routes and rules, where they have to be laid anew; `laid`: what there is when all
    is done. `lacks`: why there is no filter where one is wanted; what must not be without it is
    left out then. `unmarked`: why the exit node is.
    """

    want: Surroundings
    renew_filter: bool = False
    settings: Settings = SETTLED
    table: RouteTable | None = None
    commands: tuple[Command, ...] = ()
    laid: frozenset[Kind] = frozenset()
    changes: tuple[Change, ...] = ()
    lacks: NmkError | None = None
    unmarked: NmkError | None = None


def plan(
    me: Membership,
    want: Surroundings,
    run: Runner,
    lacks: NmkError | None = None,
    *,
    is_shut: bool = False,
) -> Work:
    """What turns the machine as it is into what is wanted; nothing where they agree.

    `lacks`: why the filter cannot be put in place, where that has been tried; `is_shut`: it is in
    place.
    """
    if want.is_wall and not sysctl.opens_loopback() and stops_forwarding(me, run):
        want = replace(want, ruleset=None, is_wall=False)
    wanted = {
        "filter": want.ruleset is not None,
        "routes": want.table != NO_TABLE,
        "docker": want.forwards,
    }
    laid = frozenset(kind for kind in _KINDS if wanted[kind])
    looks = laid | me.laid
    if me.order != NO_ORDER and not state.tells_laid(me.network):
        looks |= _TOLD_APART
    live = NO_TABLE
    if "routes" in looks:
        live = routes.probe_table(run, me.order, me.interface)
    if want.ruleset is not None and lacks is None:
        lacks = packet_filter.no_nft() if not has_tool("nft") else not_ours(me, run)
    if lacks and "filter" not in me.laid:
        laid -= {"filter"}
    do = _without_filter(me, want, live) if lacks else want
    do, unmarked = without_mark(me, do)
    renew = lacks is None and "filter" in looks and not is_shut
    renew = renew and is_filter_other(me, want.ruleset, run)
    settings = plan_settings(me, do.sysctls, run)
    commands: list[Command] = []
    lines = [RENEW if want.ruleset else "remove the packet filter"] * renew
    lines += settings.lines
    if "docker" in looks:
        docker = plan_docker(_read_tables(run), me.interface, wanted=do.forwards)
        line = "let packets through" if do.forwards else "take our rules out of"
        lines += [f"{line} Docker's chain"] * bool(docker)
        commands += docker
    lines += describe_table(me.order, do.table, live)
    return Work(
        want=want,
        renew_filter=renew,
        settings=settings,
        table=None if do.table == live else do.table,
        commands=tuple(commands),
        laid=laid,
        changes=tuple(Change("surroundings", line) for line in lines),
        lacks=lacks,
        unmarked=unmarked,
    )


def _without_filter(me: Membership, want: Surroundings, live: RouteTable) -> Surroundings:
    """What of it may be there where the filter may not: no forwarding, no way by an exit node.

    What there is already stays, as the filter beside it may be there too.
    """
    off = {p for p in (IPV4_FORWARDING, IPV6_FORWARDING) if sysctl.read(p) == "0"}
    return Surroundings(
        table=without_exit(me.order, want.table, live),
        sysctls={path: value for path, value in want.sysctls.items() if path not in off},
        forwards=want.forwards and "docker" in me.laid,
    )


def begin(me: Membership, work: Work, run: Runner, tried: Attempts) -> tuple[Membership, Work]:
    """What must be there before any packet takes a new way; then the work that is left.

    Raises StateUnwritable.
    """
    if me.order != NO_ORDER and not state.tells_laid(me.network):
        with tried.step():
            own_place.leave_others(me, run)
    if work.unmarked:
        tried.errors.append(work.unmarked)
    if work.lacks:
        tried.errors += unwalled(me, work.lacks) if work.want.is_wall else [work.lacks]
    if _settled_file(me) in _unwritten and not (work.renew_filter or run.dry):
        _note_settled(me, _unwritten[_settled_file(me)], tried)
    if not work.changes:
        return me, work
    noted = replace(me, laid=me.laid | work.laid, found={**me.found, **work.settings.found})
    if noted != me and not run.dry:
        state.save(noted)
    if work.renew_filter and work.want.ruleset is not None:
        try:
            renew_filter(noted, work.want.ruleset, run, tried)
        except CommandFailed as error:
            return begin(noted, plan(noted, work.want, run, error), run, tried)
    return noted, work


def finish(me: Membership, work: Work, run: Runner, tried: Attempts) -> Membership:
    """What comes once the tunnel is as it should be."""
    lay(me, work, run, tried)
    return end(me, work, run, tried)


def lay(me: Membership, work: Work, run: Runner, tried: Attempts) -> None:
    """Kernel settings, rules, routes: while there is an interface."""
    write_settings(me, work.settings, run, tried)
    commands, table = list(work.commands), work.table
    if table is not None:
        if not (run.dry or work.unmarked) and (error := why_unmarked(me, work.want)):
            tried.errors.append(error)
            table = leave_out_exit(me, table)
        # With the last address of a family the kernel has taken the routes away by itself.
        live = routes.probe_table(run, me.order, me.interface)
        commands = [*plan_table(me.order, me.interface, table, live), *commands]
    for command in commands:
        with tried.step():
            run.change(command)


def end(me: Membership, work: Work, run: Runner, tried: Attempts) -> Membership:
    """A filter that nobody needs any more goes last."""
    if work.want.ruleset is None:
        if _is_out_of_reach(me):
            tried.errors.append(packet_filter.stays(table_name(me.network)))
            return replace(me, laid=work.laid | {"filter"}, found=work.settings.found)
        if work.renew_filter:
            with tried.step():
                packet_filter.replace(run, table_name(me.network), None)
        if not run.dry:
            _unsettle(me)
    if not (run.dry or tried.errors):
        state.note_laid(me.network)
    return replace(me, laid=work.laid, found=work.settings.found)


def check_removed(me: Membership, keep: Surroundings, run: Runner) -> None:
    """Look again at what lies around the tunnel. `me`: as it was before all but `keep` was removed.

    Raises CommandFailed that names what is still there, or again, and the commands that remove it.
    """
    left = plan(replace(me, found={}), keep, run)
    table = table_name(me.network)
    ends = [packet_filter.DELETE.format(table)] * (left.renew_filter and keep.ruleset is None)
    if left.table is not None:
        live = routes.probe_table(run, me.order, me.interface)
        ends += removals(me.order, me.interface, keep.table, live)
    ends += [str(command) for command in left.commands]
    if ends:
        more = f"; and {len(ends) - 1} more" if len(ends) > 1 else ""
        what = f"not all of {me.network} is removed, this stays: {ends[0]}{more}"
        raise CommandFailed(what, f"{'; '.join(ends)}; or end what lays it again")


def _is_out_of_reach(me: Membership) -> bool:
    """Whether a filter was laid, and there is nothing to remove it with, or to see it."""
    was_laid = is_settled(me) or me.known is not None  # a state that cannot be read does not say
    return "filter" in me.laid and was_laid and not has_tool("nft")


def _read_tables(run: Runner) -> list[Table]:
    """The machine's own rules; none where they cannot be read, which is no reason to stop."""
    with suppress(CommandFailed):
        return read_tables(run) or []
    return []


def unwalled(me: Membership, why: NmkError) -> list[NmkError]:
    """What is to be said where nothing keeps the network from what this machine opens to it."""
    said = "nft is not installed" if isinstance(why, ToolMissing) else why.message
    found: list[NmkError] = []
    if sysctl.forwards(me.interface):
        reach = f"this machine forwards, and others of {me.network} get by it where it gets"
        found.append(OpenForwarding(f"{reach}: {said}", why.hint))
    if sysctl.opens_loopback():
        reach = f"route_localnet is on, and others of {me.network} reach what is on 127.0.0.1 here"
        found.append(OpenLoopback(f"{reach}: {said}", why.hint))
    return found


def is_filter_other(me: Membership, ruleset: str | None, run: Runner) -> bool:
    """Whether the table differs from the one that is wanted, or was changed by others since."""
    there = packet_filter.listing(run, table_name(me.network))
    if ruleset is None:
        return is_ours(there)  # one that only has our name stays
    if not there:
        return True
    digest = _digest(ruleset, there)
    if _unwritten.get(_settled_file(me)) == digest:
        return False
    try:
        return read_file(_settled_file(me), _MOST_DIGEST) != digest
    except OSError:
        return True


def not_ours(me: Membership, run: Runner) -> CommandFailed | None:
    """Why no first table may be laid: another program has one of that name."""
    table = table_name(me.network)
    if "filter" in me.laid or is_ours(there := packet_filter.listing(run, table)) or not there:
        return None
    return CommandFailed(
        f"there is a table inet {table} in nft that is not nmk's",
        f"where nothing needs it: nft delete table inet {table}",
    )


def renew_filter(me: Membership, ruleset: str, run: Runner, tried: Attempts) -> None:
    """Put the table in place, and note what nft makes of it: its own words differ from ours."""
    packet_filter.replace(run, table_name(me.network), ruleset)
    if run.dry:
        return
    there = packet_filter.listing(run, table_name(me.network))
    _note_settled(me, _digest(ruleset, there), tried)
    if _settled_file(me) in _unwritten:
        run.warn(tried.errors[-1].message)


def _note_settled(me: Membership, digest: bytes, tried: Attempts) -> None:
    """Note it on disk; where that cannot be, in this process, so that it does not fight itself."""
    path = _settled_file(me)
    try:
        make_runtime_directory()
        write_private(path, digest)
        _unwritten.pop(path, None)
    except OSError as error:
        _unwritten[path] = digest
        message = f"{path} cannot be written: {error.strerror}"
        place = shell(path.parent)
        hint = f"make room: df -hi {place}"
        if path.parent.exists() and not path.parent.is_dir():
            hint = f"move it away: mv {place} /root/"
        elif error.errno not in {errno.ENOSPC, errno.EDQUOT}:
            hint = f"look whose it is, and whether it can be written: ls -ld {place}; mount"
        tried.errors.append(NoteUnwritable(message, hint))


def _unsettle(me: Membership) -> None:
    """No table is there any more, whoever removed it."""
    path = _settled_file(me)
    _unwritten.pop(path, None)
    with suppress(OSError):
        path.unlink()
        path.parent.rmdir()


def is_settled(me: Membership) -> bool:
    """Whether the packet filter that was wanted last is in place."""
    return _settled_file(me) in _unwritten or _settled_file(me).exists()


def may_be_shut(me: Membership) -> bool:
    """Whether a kill switch was laid that nobody can look at, or open, for want of nft."""
    try:
        noted = _unwritten.get(_settled_file(me)) or read_file(_settled_file(me), _MOST_DIGEST)
    except OSError:
        return False
    return noted.endswith(_SHUT) and not has_tool("nft")


def is_shut(me: Membership, run: Runner) -> bool:
    """Whether the kill switch is in the kernel now, whatever was noted."""
    return kill_chains.is_shut(packet_filter.listing(run, table_name(me.network)))


def _digest(ruleset: str, listing: str) -> bytes:
    """It ends in `_SHUT` where the kill switch is in it: without nft nothing else tells."""
    digest = sha256(f"{ruleset}\0{listing}".encode()).hexdigest().encode()
    return digest + _SHUT * kill_chains.is_shut(listing)


def _settled_file(me: Membership) -> Path:
    return runtime_directory() / f"{me.network}.ruleset"
