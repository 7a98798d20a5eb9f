"""The routes of tasks (contract 1.4), and ours that look at one task."""

import re
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from django.db.models import QuerySet
from django.http import HttpResponse, HttpResponseBase
from rest_framework.exceptions import PermissionDenied
from rest_framework.request import Request

from .. import control, create, edit
from ..access.callers import OPERATE, READ, WRITE
from ..conf import conf
from ..errors import NotFoundError
from ..insight import find
from ..insight.cursor import After
from ..models import Task
from ..rules.spec import (
    FIELDS,
    TASK_WORDS,
    Kind,
    TaskField,
    read_attempts,
    read_bool,
    read_json,
    read_task,
)
from ..store import wire
from ..verbs import slices
from . import query
from .answers import Page, json_answer, json_page
from .base import CrewView
from .changes import Field, read_changes
from .groups import ATTEMPTS
from .lists import numbered
from .repeat import conditional, guarded, once

_NUMBER = re.compile("[0-9]{1,10}")


def _payload(name: str) -> Callable[[object], object]:
    def check(value: object) -> object:
        read_json(value, name, limit=conf.CREW_MAX_INPUT_BYTES)
        return value

    return check


def _editable(field: TaskField) -> Field:
    read = field.reader()
    if read is None:
        return Field(field.column, _payload(field.word), empty=None)
    match field.kind:
        case Kind.TEXT:
            return Field(field.column, read, empty="")
        case Kind.TIME:
            # None is now; "", which the old web client sends for an emptied time, is read as None.
            return Field(field.column, read, empty=None)
        case Kind.LIST:
            return Field(field.column, lambda value: list(read(value)), empty=[])
        case Kind.NUMBER:
            # The old web client sends "" for a number that was emptied.
            return Field(field.column, read, nothing=(None, ""))
    return Field(field.column, read)


# What a PUT may change: the wire's word, and how its value is read (contract part 3).
EDITABLE = {field.word: _editable(field) for field in FIELDS if field.is_editable}


class Tasks(CrewView):
    needs = {"GET": READ, "POST": WRITE}
    is_repeatable = True
    takes = {"GET": (*query.PAGING, *query.FILTERS), "POST": ("dryRun",)}

    def get(self, request: Request, gid: str) -> HttpResponse:
        """Tasks of the group, oldest first; none for a group that is not there."""
        which, after, at = query.task_filter(request), query.after(request), query.page(request)

        def look() -> Page:
            try:
                group = self.group(gid)
            except NotFoundError:
                found = find.NO_PART if after else find.NONE
            else:
                found = (
                    find.tasks_after(group, which, after) if after else find.tasks(group, which, at)
                )
            return Page(found.as_json(), found.is_large)

        return json_page(look)

    def post(self, request: Request, gid: str) -> HttpResponse:
        """Create a task. Its parents must be in the group already."""
        self.look_in(gid)
        fields = self.fields(request, TASK_WORDS)
        return once(self, request, lambda: self._create(request, gid, fields))

    def _create(self, request: Request, gid: str, fields: dict[str, Any]) -> wire.Json:
        with query.dry_run(request):
            spec = read_task(fields, max_input=conf.CREW_MAX_INPUT_BYTES, ignored=[])
            return wire.new_task(create.create_task(gid, spec), spec.parent_ids)


class OneTask(CrewView):
    """What the routes of one task share: it must be in the group of the path, if that names one."""

    def task(self, tid: str, gid: str | None = None) -> Task:
        """The task, if the caller may see it. Raises NotFoundError."""
        row: Task | None = Task.objects.filter(pk=tid).first()
        if row is None or not self.access.sees(row.group_id) or gid not in (None, row.group_id):
            raise NotFoundError("task not found")
        return row

    def shown(self, tid: str, gid: str | None = None) -> HttpResponse:
        return json_answer(wire.task(self.task(tid, gid)))


class TaskDetail(OneTask):
    needs = {"GET": READ, "PUT": WRITE, "DELETE": WRITE}
    takes = {"DELETE": ("children",)}
    is_guarded = True

    def get(self, request: Request, gid: str, tid: str) -> HttpResponseBase:
        """One task. Conditional: send the `ETag` back as `If-None-Match`."""
        return conditional(request, self.shown(tid, gid))

    def put(self, request: Request, gid: str, tid: str) -> HttpResponse:
        """Change what the body names; 409 for more than `isPaused` while the task executes.

        What is null stays as it is; `clear` names what is to be empty. With `If-Match` only what
        has that `ETag` is changed, 412 else.
        """
        self.look_in(gid)
        changes = read_changes(self.fields(request, (*TASK_WORDS, "clear")), EDITABLE)
        with guarded(request, gid, partial(self.shown, tid, gid), tid=tid, whole=True):
            if changes:
                edit.edit_task(gid, tid, changes)
            return self.shown(tid, gid)

    def delete(self, request: Request, gid: str, tid: str) -> HttpResponse:
        """Delete the task, and the descendants that it leaves without any parent."""
        self.look_in(gid)
        self.refuse_body(request)
        whole = slices.is_small(gid)
        with guarded(request, gid, partial(self.shown, tid, gid), tid=tid, whole=whole):
            control.delete_tasks(gid, [tid], children=query.children(request))
        return json_answer({"deleted": True, "id": tid})


class TaskById(OneTask):
    needs = {"GET": READ}

    def get(self, request: Request, tid: str) -> HttpResponseBase:
        """One task, whatever its group. Conditional, as with its group."""
        return conditional(request, self.shown(tid))


class TaskVerb(OneTask):
    """POST …/reset and …/retry; the answer is the task as it is then."""

    needs = {"POST": OPERATE}
    verb: Callable[..., int]

    def post(self, request: Request, gid: str, tid: str) -> HttpResponse:
        self.look_in(gid)
        sent = self.options(request, ATTEMPTS)
        attempts = read_attempts(sent.get("remainingAttempts"))
        type(self).verb(gid, [tid], remaining_attempts=attempts)
        return self.shown(tid, gid)


class ResetTask(TaskVerb):
    """Make the task as if it had never run; 409 while it executes."""

    verb = staticmethod(control.reset_tasks)


class RetryTask(TaskVerb):
    """Give the task its attempts back; a complete one stays as it is."""

    verb = staticmethod(control.retry_tasks)


class RerunTask(OneTask):
    """Give the task this `input`, if any, and make it as if it had never run, in one.

    `"clear": ["input"]` takes the input away; without either, and with null, it stays.

    409 while it executes. A new input needs scope `write` as well.
    """

    needs = {"POST": OPERATE}
    is_v1 = False

    def post(self, request: Request, gid: str, tid: str) -> HttpResponse:
        self.look_in(gid)
        sent = self.options(request, ("input", "clear", "remainingAttempts", "keepComplete"))
        changes = read_changes(sent, {"input": EDITABLE["input"]})
        if changes and not self.access.may(WRITE):
            raise PermissionDenied(f"a new input needs scope {WRITE}")
        attempts = read_attempts(sent.get("remainingAttempts"))
        keep = read_bool(sent.get("keepComplete"), "keepComplete")
        edit.rerun_task(gid, tid, changes, remaining_attempts=attempts, keep_complete=keep)
        return self.shown(tid, gid)


class TaskAttempts(OneTask):
    needs = {"GET": READ}
    is_v1 = False
    takes = {"GET": query.PAGING}

    def get(self, request: Request, tid: str) -> HttpResponse:
        """Every attempt of the task that ended, the newest first."""
        after, at = query.after(request), query.page(request, strict=True)

        def look() -> Page:
            rows = self.task(tid).attempts.order_by("-number").defer("request", "answer")
            return numbered("attempts", rows, "number", wire.attempt, after or at)

        return json_page(look)


class OneAttempt(OneTask):
    needs = {"GET": READ}
    is_v1 = False

    def get(self, request: Request, tid: str, number: str) -> HttpResponse:
        """An attempt that ended, with the request that went out and the answer that came."""
        rows = self.task(tid).attempts
        row = rows.filter(number=number).first() if _NUMBER.fullmatch(number) else None
        if row is None:
            raise NotFoundError("attempt not found")
        return json_answer(wire.whole_attempt(row))


class Relatives(OneTask):
    """The tasks at the other end of a task's edges."""

    needs = {"GET": READ}
    is_v1 = False
    takes = {"GET": query.PAGING}
    # How the other tasks are bound to this one, and their order.
    edge: str
    order: Sequence[str]

    def get(self, request: Request, tid: str) -> HttpResponse:
        after, at = query.after(request), query.page(request, strict=True)

        def look() -> Page:
            rows = Task.objects.filter(**{self.edge: self.task(tid).pk})
            if after:
                found = self.found_after(rows, tid, after)
            else:
                found = find.found(rows.order_by(*self.order), at)
            return Page(found.as_json(), found.is_large)

        return json_page(look)

    def found_after(self, rows: QuerySet[Task], tid: str, after: After) -> find.Found:
        return find.found_after(rows, after)


class Children(Relatives):
    """The tasks that wait, or waited, for this one, oldest first."""

    edge, order = "parent_edges__parent_id", ("created_at", "id")


class Parents(Relatives):
    """The tasks that this one waits, or waited, for, in the order they were named."""

    edge, order = "child_edges__child_id", ("child_edges__position",)

    def found_after(self, rows: QuerySet[Task], tid: str, after: After) -> find.Found:
        return find.parents_after(tid, after)
