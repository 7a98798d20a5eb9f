"""The Redis of an old Crew comes into the store, read only: group by group, each whole.

Its records may be half broken: what cannot be brought over, or not as it was, is listed with a
reason, and the rest comes. A task whose parent cannot come is brought in paused, unless the
parent was complete or is gone ((which stopped nobody there)): it never starts too soon. Groups
that are here already are left alone, so a second run creates nothing twice.

Memory holds the ids, the parents of one group, and a hundred records.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any

from ...conf import conf
from ...errors import CrewError, InvalidInputError
from ...rules import spelling
from ...rules.jsonio import JSONError, read, safe_text
from ...rules.names import MAX_LENGTH, check_worker
from ...rules.spec import MAX_ATTEMPTS, MAX_ERROR_DELAY, TASK_WORDS, read_id, read_task, read_time
from ..invariants import on_cycles
from .exported import Imported
from .into import Existing, How, coming_in, is_there
from .lines import MAX_LINE, MAX_VALUES
from .old_store import PREFIX, RECORDS_IN_MEMORY, OldCrew, Redis
from .records import GroupRow, TaskRow


@dataclass(frozen=True, slots=True)
class Amiss:
    """What did not come over, or not as it was, and why."""

    what: str
    why: str


@dataclass(slots=True)
class _Node:
    """A task that can come: its place in the graph, and what is to be changed of it."""

    parents: tuple[str, ...]
    is_complete: bool
    is_paused: bool = False


def bring_in(client: Redis, how: How, *, prefix: str = PREFIX) -> Iterator[Imported | Amiss]:
    """Bring all groups in; what is amiss comes after its group, what belongs to none at the end."""
    old = OldCrew(client, prefix)
    for group_id, record in old.records("task-groups/"):
        if group_id in old.groups:
            continue  # a scan may give a key twice
        old.groups.add(group_id)
        yield from _group(old, group_id, record, how)
    yield from _left_over(old)


def _group(old: OldCrew, group_id: str, record: bytes, how: How) -> Iterator[Imported | Amiss]:
    what = f"group {group_id}"
    try:
        group, remarks = _group_row(group_id, record, how.suffix)
        ids = old.listed(group_id)
        if how.existing is not Existing.REPLACE and is_there(group.id):
            old.tasks.update(ids)
            yield Imported(group.id, len(ids), is_stored=False)
            return
        nodes, amiss = _look(old, group_id, ids)
        with coming_in(group, how) as incoming:
            rows = _rows(old, group_id, nodes, how.suffix)
            while some := list(islice(rows, RECORDS_IN_MEMORY)):
                incoming.add_tasks(some)
    except CrewError as error:
        yield Amiss(what, f"it did not come: {error}")
        return
    yield Imported(group.id, incoming.tasks, is_stored=True)
    yield from (Amiss(what, remark) for remark in remarks)
    yield from amiss


def _group_row(group_id: str, record: bytes, suffix: str) -> tuple[GroupRow, list[str]]:
    fields = _object(record, group_id)
    remarks: list[str] = []
    name = _name(fields, remarks)
    created_at = read_time(fields.get("createdAt"), "createdAt")
    return GroupRow(read_id(group_id + suffix), name, created_at=created_at), remarks


def _look(old: OldCrew, group_id: str, ids: list[str]) -> tuple[dict[str, _Node], list[Amiss]]:
    """The tasks that can come, and how; and what is amiss."""
    nodes: dict[str, _Node] = {}
    amiss: list[Amiss] = []
    missing = set(ids)
    for id_, record in old.get("tasks/", ids):
        missing.discard(id_)
        try:
            row, remarks = _task_row(id_, group_id, record)
        except _ElsewhereError as error:
            amiss.append(Amiss(f"task {id_}", f"listed in group {group_id}, but {error}"))
            continue
        except InvalidInputError as error:
            amiss.append(Amiss(f"task {id_}", f"it did not come: {error}"))
        else:
            nodes[id_] = _Node(row.spec.parent_ids, row.spec.is_complete)
            amiss += [Amiss(f"task {id_}", remark) for remark in remarks]
        old.tasks.add(id_)
    amiss += [Amiss(f"task {id_}", "its record is gone") for id_ in ids if id_ in missing]
    amiss += _cut_parents(old, nodes)
    amiss += _cut_cycles(nodes)
    return nodes, amiss


def _cut_parents(old: OldCrew, nodes: dict[str, _Node]) -> Iterator[Amiss]:
    """Take away the parents that do not come along."""
    outside = {id_ for node in nodes.values() for id_ in node.parents if id_ not in nodes}
    harmless = dict.fromkeys(outside, "gone")
    for id_, record in old.get("tasks/", sorted(outside)):
        try:
            is_complete = _object(record, id_).get("isComplete") is True
        except InvalidInputError:
            is_complete = False
        harmless[id_] = "complete, and does not come along" if is_complete else ""
    for id_, node in nodes.items():
        for parent in node.parents:
            if parent == id_:
                yield _hold(id_, node, "it names itself as a parent")
            elif parent in nodes:
                continue
            elif harmless[parent]:
                yield Amiss(f"task {id_}", f"its parent {parent} is {harmless[parent]}")
            else:
                yield _hold(id_, node, f"its parent {parent} is not complete and does not come")
        node.parents = tuple(p for p in node.parents if p in nodes and p != id_)


def _cut_cycles(nodes: dict[str, _Node]) -> Iterator[Amiss]:
    edges = ((parent, id_) for id_, node in nodes.items() for parent in node.parents)
    circle = set(on_cycles(edges))
    for id_ in sorted(circle):
        node = nodes[id_]
        cut = [parent for parent in node.parents if parent in circle]
        node.parents = tuple(parent for parent in node.parents if parent not in circle)
        yield _hold(id_, node, f"it waits for itself: its parent {', '.join(cut)} is taken away")


def _hold(id_: str, node: _Node, why: str) -> Amiss:
    if not node.is_complete:
        node.is_paused = True
        why += ", so it comes paused"
    return Amiss(f"task {id_}", why)


def _rows(old: OldCrew, group_id: str, nodes: dict[str, _Node], suffix: str) -> Iterator[TaskRow]:
    for id_, record in old.get("tasks/", nodes):
        node = nodes[id_]
        row, _ = _task_row(id_, group_id, record)
        spec = replace(
            row.spec,
            id=read_id(id_ + suffix),
            parent_ids=tuple(parent + suffix for parent in node.parents),
            is_paused=row.spec.is_paused or node.is_paused,
        )
        yield replace(row, spec=spec, pending=len(node.parents))


def _task_row(id_: str, group_id: str, record: bytes) -> tuple[TaskRow, list[str]]:
    """The task, and what is not as it was; raises InvalidInputError for one that cannot come."""
    fields = _object(record, id_)
    if fields.get("taskGroupId") != group_id:
        raise _ElsewhereError(f"it belongs to group {_shown(fields.get('taskGroupId'))}")
    remarks: list[str] = []
    fields["name"] = _name(fields, remarks)
    fields["worker"] = _worker(fields, remarks)
    # There these may be anything; less than none means none, and more than we take means most.
    for field, most in (
        ("remainingAttempts", MAX_ATTEMPTS),
        ("errorDelayInSeconds", MAX_ERROR_DELAY),
    ):
        value = fields.get(field)
        if isinstance(value, int) and not 0 <= value <= most:
            fields[field] = min(max(value, 0), most)
            remarks.append(f"its {field} was {_shown(value)}, and is {fields[field]}")
    if fields.get("busyExecuting") is True and fields.get("isComplete") is not True:
        remarks.append("it was executing, and runs again")
    max_input = max(conf.CREW_MAX_INPUT_BYTES, conf.CREW_MAX_ANSWER_BYTES)
    ignored: list[str] = []
    row = TaskRow(read_task(fields, max_input=max_input, ignored=ignored))
    if ignored:
        remarks.append(f"left behind: {spelling.with_hints(ignored, TASK_WORDS)}")
    return row, remarks


def _left_over(old: OldCrew) -> Iterator[Amiss]:
    """The tasks that no group lists."""
    for id_, record in old.records("tasks/"):
        if id_ in old.tasks or id_.endswith("/mutex"):
            continue
        old.tasks.add(id_)
        try:
            group_id = _object(record, id_).get("taskGroupId")
        except InvalidInputError as error:
            yield Amiss(f"task {id_}", f"it did not come: {error}")
            continue
        shown = _shown(group_id)
        is_known = isinstance(group_id, str) and group_id in old.groups
        why = f"its group {shown} does not list it" if is_known else f"its group {shown} is gone"
        yield Amiss(f"task {id_}", f"it did not come: {why}")


class _ElsewhereError(InvalidInputError):
    """The record is another group's."""


def _object(record: bytes, id_: str) -> dict[str, Any]:
    """The record; NUL and lone surrogates, which no database here takes, replaced."""
    try:
        fields = read(
            record,
            max_bytes=MAX_LINE,
            max_nodes=MAX_VALUES,
            duplicates_refused=False,
            replace_unsafe=True,
        ).value
    except JSONError as error:
        raise InvalidInputError(f"its record is {error}") from error
    if not isinstance(fields, dict):
        raise InvalidInputError("its record is no object")
    if fields.get("id") != id_:
        raise InvalidInputError(f"its record is that of {_shown(fields.get('id'))}")
    return fields


def _name(fields: dict[str, Any], remarks: list[str]) -> Any:
    name = fields.get("name")
    if isinstance(name, str) and len(name) > MAX_LENGTH:
        remarks.append(f"its name was longer than {MAX_LENGTH} characters, and is cut")
        return name[:MAX_LENGTH]
    return name


def _worker(fields: dict[str, Any], remarks: list[str]) -> Any:
    worker = fields.get("worker") or ""
    try:
        return check_worker(worker)
    except ValueError:
        remarks.append(f"{_shown(worker)} cannot be the name of a worker: it comes without one")
        return ""


def _shown(value: object) -> str:
    return repr(safe_text(value, 60) if isinstance(value, str) else value)[:62]
