"""A run of `nmk checkin`: the controllers of all its networks are waited for at the same time."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, suppress
from functools import partial
from queue import Empty, SimpleQueue

from nmk.agent.api import MOST_SECONDS
from nmk.agent.membership import Membership
from nmk.agent.places import make_runtime_directory
from nmk.agent.tick import RESTORE, Asking, ask, begin, end, put_right
from nmk.errors import CheckInUnderWay, MachineUnfit, NmkError
from nmk.locks import passing_lock
from nmk.system.runner import Runner
from nmk.threads import start
from nmk.unforeseen import ours

LONGEST = MOST_SECONDS + 30  # seconds; who asks for longer does not come back

Finish = Callable[[], Membership]  # what is left of a check-in once its answer is there


def check_in_all(
    networks: Sequence[str], make_runner: Callable[[], Runner], *, in_turn: bool
) -> Iterator[tuple[str, Membership | NmkError]]:
    """A check-in of each network, and its outcome as it comes; one that fails stops no other.

    So a run waits no longer for many controllers that hang than for one. `in_turn`: of runs that
    follow each other whatever becomes of them, one at a time checks in to a network. Where an
    earlier one has not come to its end the network is put right from disk, and the outcome is
    CheckInUnderWay.
    """
    answers = SimpleQueue[tuple[str, Finish]]()
    turns: dict[str, tuple[ExitStack, Asking, Runner]] = {}
    with ExitStack() as to_the_end:
        for network in networks:
            run = make_runner()
            turn = to_the_end.enter_context(ExitStack())
            try:
                if in_turn and not run.dry:
                    _take_turn(network, turn, run)
                asking = begin(network, run)
            except NmkError as error:
                turn.close()
                yield network, error
                continue
            turns[network] = (turn, asking, run)
            ask_aside(asking, run, partial(_put, answers, network))
        while turns:
            try:
                network, finish = answers.get(timeout=LONGEST)
            except Empty:
                network, (_, asking, run) = next(iter(turns.items()))
                finish = give_up(asking, run)
            if network not in turns:  # given up, and here after all
                continue
            outcome: Membership | NmkError
            turn, *_ = turns.pop(network)
            with turn:
                try:
                    outcome = finish()
                except NmkError as error:
                    outcome = error
            yield network, outcome


def ask_aside(asking: Asking, run: Runner, deliver: Callable[[Finish], None]) -> None:
    """Ask the controller in a thread of its own, and deliver, there, what is left to be done.

    Where there can be no thread that is delivered at once: the check-in has failed.
    """

    def fetch() -> None:
        outcome: Membership | NmkError
        try:
            outcome = ask(asking, run)
        except BaseException as error:  # noqa: BLE001 - whoever waits for an answer gets one
            outcome = ours(error)
        deliver(partial(end, asking, outcome, run))

    try:
        start(fetch)
    except MachineUnfit as error:
        deliver(partial(end, asking, error, run))


def give_up(asking: Asking, run: Runner) -> Finish:
    """What is left to be done where the one who asks has not come back after LONGEST.

    As where there was no memory for the answer.
    """
    lost = MachineUnfit(f"asking the controller did not come to its end in {LONGEST:.0f} s")
    return partial(end, asking, lost, run)


def _take_turn(network: str, turn: ExitStack, run: Runner) -> None:
    """Hold the network's turn; where nothing can be noted under /run there is none to be held.

    Raises CheckInUnderWay where another run has it: then the network is put right all the same.
    """
    try:
        turn.enter_context(passing_lock(make_runtime_directory() / f"{network}.checkin", 0))
    except TimeoutError as error:
        with suppress(NmkError):  # the other run says it
            put_right(network, run, RESTORE)
        raise CheckInUnderWay(
            f"an earlier check-in has not come to its end: {error.strerror}"
        ) from None
    except OSError:
        return


def _put(answers: SimpleQueue[tuple[str, Finish]], network: str, finish: Finish) -> None:
    answers.put((network, finish))
