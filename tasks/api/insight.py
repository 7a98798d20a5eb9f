"""The routes that look through tasks and groups: why, what failed, the graph, the timeline."""

from django.http import HttpResponse
from rest_framework.request import Request

from .. import control
from ..access.callers import OPERATE, READ
from ..errors import InvalidInputError, NotFoundError
from ..insight import failures, overview, timeline
from ..insight.explain import explain
from ..insight.graph import picture, summary
from ..insight.preview import call_of
from ..models import TaskGroup
from ..rules.spec import read_attempts
from ..sql.one_look import one_look
from ..store import wire
from . import query
from .answers import json_answer
from .base import CrewView
from .groups import ATTEMPTS
from .tasks import OneTask


class Overview(CrewView):
    """The groups that have something to do, and the fleet: what an operator looks at first."""

    needs = {"GET": READ}
    is_v1 = False

    def get(self, request: Request) -> HttpResponse:
        return json_answer(wire.plain(overview.overview(self.access.group_ids)))


class GroupsNow(CrewView):
    """How far these groups are; those that are not there, or not for the caller, are left out."""

    needs = {"GET": READ}
    is_v1 = False
    takes = {"GET": ("ids",)}

    def get(self, request: Request) -> HttpResponse:
        ids = query.ids(request, "ids", most=overview.GROUPS_ASKED)
        rows = self.access.only(TaskGroup.objects.filter(pk__in=ids), "pk")
        shown = overview.lines(list(rows.order_by("-created_at", "-id")))
        return json_answer({"groups": wire.plain(shown)})


class Explain(OneTask):
    """Why the task is not running: every gate, in the order the scheduler sees them."""

    needs = {"GET": READ}
    is_v1 = False

    def get(self, request: Request, tid: str) -> HttpResponse:
        task = self.task(tid)
        reasons = explain(task.pk, self.access.group_ids)
        if reasons is None:
            raise NotFoundError("task not found")
        row = {"mergedInto": task.merged_into, "createdBy": task.created_by}
        return json_answer(wire.plain(reasons) | {"startsItself": reasons.starts_itself} | row)


class Call(OneTask):
    """The call that the worker would get for the task now; secrets are left out."""

    needs = {"GET": READ}
    is_v1 = False

    def get(self, request: Request, tid: str) -> HttpResponse:
        called = call_of(self.task(tid).pk)
        if called is None:
            raise NotFoundError("task not found")
        return json_answer(wire.plain(called))


class Graph(CrewView):
    """The group's graph, laid out: every task up to a thousand, sums above."""

    needs = {"GET": READ}
    is_v1 = False

    def get(self, request: Request, gid: str) -> HttpResponse:
        return json_answer(picture.picture(self.group(gid).pk))


class GraphBucket(CrewView):
    """The ids of the tasks of one node of a summed graph, 100 a page."""

    needs = {"GET": READ}
    is_v1 = False
    takes = {"GET": ("band", "worker", "page")}

    def get(self, request: Request, gid: str) -> HttpResponse:
        band, page = query.whole(request, "band", 0), query.whole(request, "page", 1)
        worker = query.given(request, "worker")
        with one_look():
            return json_answer(summary.bucket(self.group(gid).pk, band, worker, page))


class Around(OneTask):
    """The graph around one task: what is two steps above and below it."""

    needs = {"GET": READ}
    is_v1 = False

    def get(self, request: Request, tid: str) -> HttpResponse:
        return json_answer(picture.around(self.task(tid).pk))


class Timeline(CrewView):
    """Attempts over time: how long each waited, and how long it ran. With the critical path."""

    needs = {"GET": READ}
    is_v1 = False

    def get(self, request: Request, gid: str) -> HttpResponse:
        return json_answer(timeline.timeline(self.group(gid).pk))


class Failures(CrewView):
    """Tasks without attempts left by worker and kind of error, the newest first."""

    needs = {"GET": READ}
    is_v1 = False
    takes = {"GET": (*query.PAGES, "group")}

    def get(self, request: Request) -> HttpResponse:
        gid = query.given(request, "group")
        at = query.page(request, strict=True)
        with one_look():
            if gid is not None:
                self.group(gid)
            return json_answer(wire.plain(failures.failures(gid, self.access.group_ids, at)))


class RetryFailure(CrewView):
    """Give all tasks of one kind of failure their attempts back."""

    needs = {"POST": OPERATE}
    is_v1 = False
    takes = {"POST": ("group", "dryRun")}

    def post(self, request: Request, key: str) -> HttpResponse:
        gid = query.given(request, "group")
        if gid is not None:
            self.group(gid)
        given = read_attempts(self.options(request, ATTEMPTS).get("remainingAttempts"))
        if given == 0:
            raise InvalidInputError("remainingAttempts must be at least 1")
        count, dry_run = 0, query.sure(request, "dryRun")
        for group_id, ids in failures.tasks_of(key, gid, self.access.group_ids).items():
            if dry_run:
                count += len(ids)
            else:
                count += control.retry_tasks(group_id, ids, remaining_attempts=given)
        return json_answer({"count": count})
