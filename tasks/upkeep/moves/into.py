"""A group comes into the store, part by part and yet whole or not at all.

One transaction for each group. What rows say about each other is proved at its end, on the rows
themselves, so memory does not grow with the group: parents are there, nothing waits for itself,
counters are counted.
"""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from enum import Enum
from typing import Any
from uuid import uuid4

from django.db import IntegrityError, reset_queries, transaction

from ... import audit, control
from ...conf import conf
from ...errors import ConflictError, InvalidInputError
from ...models import TaskGroup
from ...rules.jsonio import dump
from ...sql import create as create_sql
from ...sql import moves as sql
from ...sql import run, statistics
from ...store import changes, edges
from ...store.rows import known
from ...verbs import slices
from ..invariants import on_cycles
from .out import IMPORTED
from .records import GroupRow, Json, OutputRow, TaskRow

SHOWN = 10  # tasks of a cycle that are named


class Existing(Enum):
    """What becomes of a group whose id is in use."""

    REFUSE = "refuse"
    SKIP = "skip"
    REPLACE = "replace"


@dataclass(frozen=True, slots=True)
class How:
    """`origin` is what the audit history says it came from; a `dry_run` is taken back."""

    origin: str
    existing: Existing = Existing.REFUSE
    suffix: str = ""
    dry_run: bool = False


class Incoming:
    """A group on its way in. Every method raises a CrewError for what cannot be."""

    def __init__(self, group: GroupRow, *, is_replacing: bool) -> None:
        self.group = group
        self.tasks = 0
        self._is_replacing = is_replacing
        self._workers: dict[str, int | None] = {}
        self._outputs: dict[int, str] = {}

    def add_outputs(self, rows: Sequence[OutputRow]) -> None:
        """Before the tasks that share them."""
        new = {row.number: uuid4().hex for row in rows}
        if len(new) < len(rows) or new.keys() & self._outputs:
            raise InvalidInputError("an output comes twice")
        texts = (f'{{"id":"{new[row.number]}","value":{row.value_json}}}' for row in rows)
        run(sql.OUTPUTS_IN, {"rows": f"[{','.join(texts)}]"})
        self._outputs |= new
        reset_queries()

    def add_tasks(self, rows: Sequence[TaskRow]) -> None:
        """Their parents may come before or after them."""
        self.tasks += len(rows)
        if self.tasks > conf.CREW_MAX_GROUP_TASKS:
            raise InvalidInputError(f"a group holds at most {conf.CREW_MAX_GROUP_TASKS} tasks")
        for row in rows:
            _check_alone(row)
            if row.shared_output and row.shared_output not in self._outputs:
                raise InvalidInputError(
                    f"task {row.spec.id}: there is no output {row.shared_output} before it"
                )
        pairs = [
            (row.spec.id, parent, place)
            for row in rows
            for place, parent in enumerate(row.spec.parent_ids)
        ]
        texts = ",".join(row.as_json(self.group.id, self._outputs) for row in rows)
        try:
            with transaction.atomic():
                run(sql.TASKS_IN, {"tasks": f"[{texts}]"})
                run(create_sql.EDGES, {"edges": dump(pairs)})
        except IntegrityError as error:
            self._refuse_known([row.spec.id for row in rows])
            why = str(error).partition("\n")[0]
            raise ConflictError(f"the tasks could not be stored: {why}") from error
        self._workers |= {row.spec.worker: None for row in rows} | self._workers
        reset_queries()  # with DEBUG Django keeps the last 9,000 statements, payloads and all

    def add_attempts(self, rows: Sequence[Json]) -> None:
        """Of tasks that are there by now."""
        try:
            with transaction.atomic():
                stored = set(run(sql.ATTEMPTS_IN, {"rows": dump(rows), "group": self.group.id}))
        except IntegrityError as error:
            why = str(error).partition("\n")[0]
            raise InvalidInputError(f"an attempt comes twice, or is refused: {why}") from error
        reset_queries()
        for row in rows:
            if (row["task_id"], row["number"]) not in stored:
                raise InvalidInputError(
                    f"attempt {row['number']} of {row['task_id']}: the task is not among those"
                    " before it, or has not come to that number"
                )

    def add_workers(self, rows: Iterable[Json]) -> None:
        self._workers |= {row["name"]: row["most"] for row in rows}

    def add_workgroups(self, rows: Sequence[Json]) -> None:
        if new := [name for (name,) in run(sql.WORKGROUPS_IN, {"rows": dump(rows)})]:
            changes.workgroup_changed(new)

    def add_entries(self, rows: Sequence[Json]) -> None:
        placed = [row | {"place": place} for place, row in enumerate(rows)]
        run(sql.ENTRIES_IN, {"rows": dump(placed), "group": self.group.id})

    def finish(self) -> None:
        """Prove the whole, and count what is counted."""
        if self.tasks >= statistics.FEW:
            statistics.analyze()
        self._check_graph()
        params = {"group": self.group.id}
        if self._is_replacing:
            run(sql.RAISE_REACHED, params)
            run(sql.DROP_REACHED, {})
        edges.recount(self.group.id, edges.ids_in(self.group.id))
        TaskGroup.objects.filter(pk=self.group.id).update(task_count=self.tasks)
        # Last: who creates a task for a worker that is new here waits for this transaction.
        named = sorted((name, most) for name, most in self._workers.items() if name)
        run(sql.WORKERS_IN, {"rows": dump([{"name": name, "most": most} for name, most in named])})

    def _check_graph(self) -> None:
        params = {"group": self.group.id}
        for child, parent in run(sql.LOOSE, params):
            raise InvalidInputError(f"cannot find all parents for task {child}: {parent}")
        for (id_,) in run(sql.MERGED_WRONG, params):
            raise InvalidInputError(f"task {id_}: no task of its group has completed for it")
        if run(sql.BACKWARD, params):
            circle = on_cycles(sql.stream(sql.EDGES, params, 10_000))
            if circle:
                more = ", ..." if len(circle) > SHOWN else ""
                raise InvalidInputError(f"tasks form a cycle: {', '.join(circle[:SHOWN])}{more}")

    def _refuse_known(self, ids: Sequence[str]) -> None:
        twice = next((id_ for place, id_ in enumerate(ids) if id_ in ids[:place]), None)
        taken = {id_: group_id for id_, (group_id, _) in known(ids).items()}
        twice = twice or next((id_ for id_, g in taken.items() if g == self.group.id), None)
        if twice:
            raise InvalidInputError(f"duplicate task id: {twice}")
        if taken:
            id_ = min(taken)
            raise ConflictError(f"a task with the id {id_} exists already, in group {taken[id_]}")


@contextmanager
def coming_in(group: GroupRow, how: How) -> Iterator[Incoming]:
    """The group is stored when the block ends, with all that was added; nothing if it fails.

    Raises ConflictError when its id is in use and `how` does not say REPLACE.
    """
    with transaction.atomic():
        is_replacing = is_there(group.id)
        if is_replacing:
            _make_room(group.id, how)
        row = TaskGroup(id=group.id, name=group.name, is_paused=group.is_paused)
        if group.created_at is not None:
            row.created_at = group.created_at
        try:
            with transaction.atomic():
                row.save(force_insert=True)
        except IntegrityError as error:  # another came at the same moment
            raise ConflictError(_in_use(group.id)) from error
        sql.steer_patiently()
        incoming = Incoming(group, is_replacing=is_replacing)
        yield incoming
        incoming.finish()
        changes.group_changed(group.id, "update")
        changes.group_changed(group.id, "reload")
        changes.wake_schedulers()
        detail: dict[str, Any] = {IMPORTED: how.origin}
        count = incoming.tasks
        audit.record("create", audit.Kind.GROUP, group.id, group_id=group.id, count=count, **detail)
        if how.dry_run:
            transaction.set_rollback(True)


def is_there(group_id: str) -> bool:
    return TaskGroup.objects.filter(pk=group_id).exists()


def _make_room(group_id: str, how: How) -> None:
    """Delete the group, but not the numbers that its attempts have reached.

    An attempt that is on its way to a worker now is never given out a second time.
    """
    if how.existing is not Existing.REPLACE:
        raise ConflictError(_in_use(group_id))
    with slices.alone(group_id):
        run(sql.MAKE_REACHED, {})
        run(sql.KEEP_REACHED, {"group": group_id})
        control.delete_group(group_id)


def _in_use(group_id: str) -> str:
    return f"a task group with the id {group_id} exists already"


def _check_alone(row: TaskRow) -> None:
    spec = row.spec
    if spec.id in spec.parent_ids:
        raise InvalidInputError(f"task {spec.id} names itself as a parent")
    if len(spec.parent_ids) > conf.CREW_MAX_PARENTS:
        raise InvalidInputError(f"task {spec.id} has more than {conf.CREW_MAX_PARENTS} parents")
