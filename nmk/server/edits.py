"""What all use cases of the admin share: who changes something, and how requests are read."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from nmk.core.mesh import Mesh
from nmk.core.parse import quote
from nmk.core.records import Record
from nmk.errors import BadInput
from nmk.server.controller import Controller, Decide
from nmk.server.log import log_event

Json = dict[str, Any]
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Edit:
    """Who changes something, on what revision it was made (None: any), and whether only to try."""

    actor: str
    revision: int | None = None
    dry_run: bool = False


def commit_to(
    controller: Controller, edit: Edit, network: str, decide: Callable[[Mesh], list[Record]]
) -> list[Record]:
    """Commit what is decided on one network; the records as stored, or as they would be.

    What is so already is no commit, and the records are those that are there.
    """
    decided: list[Record] = []
    decide_new = _only_new(controller, network, decide, decided)
    return controller.commit(edit.actor, (network,), decide_new, dry_run=edit.dry_run) or decided


def _only_new(
    controller: Controller,
    network: str,
    decide: Callable[[Mesh], list[Record]],
    decided: list[Record],
) -> Decide:
    """What is `decided`, as far as a commit is to store it: nothing, where all of it is there."""

    def decide_new(_: object) -> list[Record]:
        mesh = controller.mesh(network)
        decided[:] = decide(mesh)
        return [] if all(mesh.find(record) == record for record in decided) else decided

    return decide_new


def commit_and_look(
    controller: Controller,
    edit: Edit,
    network: str,
    decide: Callable[[Mesh], list[Record]],
    look: Callable[[Mesh, list[Record]], T],
) -> T:
    """The same; what `look` makes of the network with this commit and none that came after it.

    Of a dry run: with what would be committed. It is called with the controller's lock.
    """
    seen: list[T] = []
    decided: list[Record] = []

    def then(records: list[Record]) -> None:
        mesh = controller.mesh(network)
        seen.append(look(mesh.tried(records) if edit.dry_run else mesh, records or decided))

    controller.commit(
        edit.actor,
        (network,),
        _only_new(controller, network, decide, decided),
        then,
        dry_run=edit.dry_run,
    )
    return seen[0]


def log_edit(event: str, edit: Edit, **fields: object) -> None:
    """A line in the controller's log, unless it was only tried."""
    if not edit.dry_run:
        log_event(event, **fields, actor=edit.actor)


def text_of(body: Json, name: str, *, empty: bool = False) -> str:
    """A field that is a text. Raises BadInput."""
    value = body.get(name)
    if value == "" and not empty:
        raise BadInput(f"the {name} is empty", "give one, or leave it out")
    if not isinstance(value, str) or not (value or empty):
        raise BadInput(f"{quote(value)} cannot be the {name}", f"give {name} as text")
    return value


def optional_of(body: Json, name: str, *, empty: bool = False) -> str | None:
    """A field that is a text, where it is there. Raises BadInput."""
    return None if body.get(name) is None else text_of(body, name, empty=empty)


def flag_of(body: Json, name: str) -> bool:
    """A field that is true or false, false where it is not there. Raises BadInput."""
    value = body.get(name, False)
    if not isinstance(value, bool):
        raise BadInput(f"{quote(value)} cannot be {name}", "give true or false")
    return value


def list_of(body: Json, name: str) -> list[object]:
    """A field that is a list, [] where it is not there. Raises BadInput."""
    value = body.get(name, [])
    if not isinstance(value, list):
        raise BadInput(f"{quote(value)} cannot be the {name}", f"give {name} as a list")
    return value


def texts_of(body: Json, name: str) -> list[str]:
    """A field that is a list of texts, [] where it is not there. Raises BadInput."""
    values = list_of(body, name)
    if "" in values:
        raise BadInput(f"one of the {name} is empty", "give one, or leave it out")
    return [text_of({name: value}, name) for value in values]


def map_of(body: Json, name: str) -> dict[str, str | int]:
    """A field that is an object, {} where it is not there. Raises BadInput."""
    value = body.get(name, {})
    if not isinstance(value, dict) or not all(isinstance(v, str | int) for v in value.values()):
        raise BadInput(f"{quote(value)} cannot be the {name}", f"give {name} as an object")
    return value
