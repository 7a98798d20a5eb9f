"""What people may change of a task: its fields, its parents, what counts as its output.

Each is a verb as those of `control.py` are: one transaction that holds the group alone.
"""

from collections.abc import Mapping
from typing import Any

from django.db.models.functions import Now

from .control import group_verb, locked, refuse_executing
from .models import Task
from .rules.jsonio import dump
from .rules.names import camel
from .rules.spec import DEFAULT_ATTEMPTS
from .sql import create as create_sql
from .sql import run
from .store import edges
from .store.changes import tasks_changed
from .verbs.acting import recorded
from .verbs.resetting import reset_locked

__all__ = ["complete_task", "edit_task", "rerun_task"]


@group_verb
def edit_task(group_id: str, id_: str, changes: Mapping[str, Any]) -> None:
    """Write these fields of a task, and what follows from them.

    `changes` maps names of fields a person may set, and `parent_ids`, to values that
    `spec.read_*` gave; `input` and `output` are plain values, read by the strict reader. Raises
    ConflictError for anything but `is_paused` while it executes, for new parents of a complete
    task, and for a cycle.
    """
    _edit(group_id, id_, changes)
    _record_edit(group_id, id_, changes)


@group_verb
def complete_task(group_id: str, id_: str, *, output: Any = None) -> None:
    """Complete a task by hand, with this output; its children are freed.

    Raises ConflictError if it is executing. A complete task only gets the output.
    """
    _edit(group_id, id_, {"is_complete": True, "output": output})
    recorded("complete", group_id, 1, [id_])


@group_verb
def rerun_task(
    group_id: str,
    id_: str,
    changes: Mapping[str, Any],
    *,
    remaining_attempts: int = DEFAULT_ATTEMPTS,
    keep_complete: bool = False,
) -> None:
    """Edit a task, as `edit_task` does, and reset it: both or nothing."""
    _edit(group_id, id_, changes)
    _record_edit(group_id, id_, changes)
    reset_locked(group_id, [id_], remaining_attempts, keep_complete)


# --- Below the verbs -------------------------------------------------------------------------


def _edit(group_id: str, id_: str, changes: Mapping[str, Any]) -> None:
    (task,) = locked(group_id, [id_])
    if set(changes) - {"is_paused"}:
        refuse_executing([task])
    fields = dict(changes)
    parent_ids = fields.pop("parent_ids", None)
    if "run_after" in fields and fields["run_after"] is None:
        fields["run_after"] = Now()
    if "is_complete" in fields and fields["is_complete"] != task.is_complete:
        fields |= {"completed_at": Now() if fields["is_complete"] else None, "merged_into": None}
    if fields:
        Task.objects.filter(pk=id_).update(**fields)
    if parent_ids is not None:
        edges.set_parents(group_id, task, parent_ids)
    if "completed_at" in fields:
        edges.recount_children(group_id, [id_])
    if fields.get("worker"):
        run(create_sql.WORKERS, {"workers": dump([fields["worker"]])})
    tasks_changed([(group_id, id_)])


def _record_edit(group_id: str, id_: str, changes: Mapping[str, Any]) -> None:
    """The names of the fields, never what they hold."""
    if changes.keys() == {"is_paused"}:
        recorded("pause" if changes["is_paused"] else "resume", group_id, 1, [id_])
    else:
        recorded("edit", group_id, 1, [id_], fields=sorted(map(camel, changes)))
