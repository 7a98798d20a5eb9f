"""The routes of task groups (contract 1.3), and ours: cancel."""

from collections.abc import Callable
from functools import partial
from typing import Any

from django.http import HttpResponse, HttpResponseBase
from rest_framework.request import Request

from .. import control, create
from ..access.callers import OPERATE, READ, WRITE
from ..errors import InvalidInputError, NotFoundError
from ..insight import find
from ..models import TaskGroup
from ..rules import spelling
from ..rules.spec import read_attempts, read_bool, read_id, read_text, read_time
from ..sql.one_look import one_look
from ..store import wire
from ..store.states import progress
from ..verbs import slices
from . import query
from .answers import json_answer
from .base import CrewView
from .body import MOST_VALUES, consumed
from .changes import Field, read_changes
from .lists import listed
from .repeat import conditional, guarded, once

GROUP_WORDS = ("id", "name", "createdAt", "isPaused")
ATTEMPTS = ("remainingAttempts",)
EDITABLE = {"name": Field("name", lambda name: name, empty="")}


class Groups(CrewView):
    needs = {"GET": READ, "POST": WRITE}
    is_repeatable = True
    takes = {"GET": (*query.PAGING, "search"), "POST": ("dryRun",)}
    max_body = "CREW_MAX_BULK_BYTES"
    max_nodes = MOST_VALUES  # a group may come with its whole graph

    def get(self, request: Request) -> HttpResponse:
        """Groups, newest first."""
        rows, search = self.access.only(TaskGroup.objects.all(), "pk"), query.search(request)
        after = query.after(request)
        if after:
            with one_look():
                count, page, going_on = find.groups_after(rows, search, after)
            return listed("taskGroups", count, map(wire.group, page), going_on)
        with one_look():
            count, page = find.groups(rows, search, query.page(request))
        return json_answer({"count": count, "taskGroups": [wire.group(row) for row in page]})

    def post(self, request: Request) -> HttpResponse:
        """Create a group and, with `tasks`, its whole graph: all of it or nothing."""
        self.needs_all_groups()
        fields = self.fields(request, (*GROUP_WORDS, "tasks"))
        self._check_ignored(fields)
        return once(self, request, lambda: self._create(request, fields))

    def _check_ignored(self, fields: dict[str, Any]) -> None:
        """Raise InvalidInputError for what may have been meant as tasks, and beside tasks for all.

        The old Crew knew of no tasks here: whoever sends some reads our own documentation.
        """
        for name in self.ignored:
            if fields.get("tasks") or isinstance(fields.get(name), list | dict):
                spelling.refuse("field", name, self.known)

    def _create(self, request: Request, fields: dict[str, Any]) -> Any:
        tasks = fields.get("tasks")
        if tasks is not None and not isinstance(tasks, list):
            raise InvalidInputError("tasks must be a list")
        with query.dry_run(request):
            group = create.create_group(
                id=read_id(fields.get("id")),
                name=read_text(fields.get("name"), "name"),
                is_paused=read_bool(fields.get("isPaused"), "isPaused"),
                created_at=read_time(fields.get("createdAt"), "createdAt"),
                tasks=consumed(tasks or []),
            )
            return wire.group(group)


class Group(CrewView):
    needs = {"GET": READ, "PUT": WRITE, "DELETE": WRITE}
    is_guarded = True

    def get(self, request: Request, gid: str) -> HttpResponseBase:
        """One group. Conditional: send the `ETag` back as `If-None-Match`."""
        return conditional(request, self.shown(gid))

    def shown(self, gid: str) -> HttpResponse:
        return json_answer(wire.group(self.group(gid)))

    def put(self, request: Request, gid: str) -> HttpResponse:
        """Rename the group; whatever else is sent is ignored, and so is a name that is no text."""
        self.look_in(gid)
        sent = self.fields(request, (*GROUP_WORDS, "clear"))
        changes = read_changes(sent, EDITABLE)
        with guarded(request, gid, partial(self.shown, gid), whole=True):
            if isinstance(changes.get("name"), str):
                control.rename_group(gid, **changes)
            return self.shown(gid)

    def delete(self, request: Request, gid: str) -> HttpResponse:
        """Delete the group with all its tasks."""
        self.look_in(gid)
        self.refuse_body(request)
        with guarded(request, gid, partial(self.shown, gid), whole=slices.is_small(gid)):
            control.delete_group(gid)
        return json_answer({"deleted": True, "id": gid})


class GroupProgress(CrewView):
    needs = {"GET": READ}

    def get(self, request: Request, gid: str) -> HttpResponse:
        """How much of the group is complete, 0 to 1; 0 for a group that is not there."""
        try:
            self.look_in(gid)
            now = progress(gid)
        except NotFoundError:
            return json_answer({"completedPercent": 0})
        fraction = now.complete / now.total if now.total else 0
        return json_answer({"completedPercent": fraction} | wire.plain(now))


class GroupVerb(CrewView):
    """POST …/reset, retry, pause, resume and cancel."""

    needs = {"POST": OPERATE}
    verb: Callable[..., int]
    takes_attempts = False
    tells_count = False

    def post(self, request: Request, gid: str) -> HttpResponse:
        self.look_in(gid)
        sent = self.options(request, ATTEMPTS if self.takes_attempts else ())
        options = {}
        if self.takes_attempts:
            options["remaining_attempts"] = read_attempts(sent.get("remainingAttempts"))
        count = type(self).verb(gid, **options)
        return json_answer({"success": True} | ({"count": count} if self.tells_count else {}))


class ResetGroup(GroupVerb):
    """Make the group as if it had never run; only seeds are kept, if it has any."""

    verb = staticmethod(control.reset_group)
    takes_attempts = True


class RetryGroup(GroupVerb):
    """Give every incomplete task its attempts back."""

    verb = staticmethod(control.retry_group)
    takes_attempts = True


class PauseGroup(GroupVerb):
    """Start nothing of the group any more; running attempts finish."""

    verb = staticmethod(control.pause_group)


class ResumeGroup(GroupVerb):
    """Take the pause from the group and from every task in it."""

    verb = staticmethod(control.resume_group)


class CancelGroup(GroupVerb):
    """Stop the group for good: running attempts are given up, nothing is tried again."""

    verb = staticmethod(control.cancel_group)
    is_v1 = False
    tells_count = True
