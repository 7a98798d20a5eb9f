"""The routes of the audit history: what was done to a group, and to a task."""

from collections.abc import Callable

from django.db.models import QuerySet
from django.http import HttpResponse
from rest_framework.request import Request

from .. import audit
from ..access.callers import READ
from ..errors import NotFoundError
from ..models import AuditEntry, TaskGroup
from ..store import wire
from . import query
from .answers import json_page
from .base import CrewView
from .lists import numbered
from .tasks import OneTask


class GroupHistory(CrewView):
    """What people did to the group and its tasks, newest first; also when it is gone."""

    needs = {"GET": READ}
    is_v1 = False
    takes = {"GET": query.PAGING}

    def get(self, request: Request, gid: str) -> HttpResponse:
        self.look_in(gid)
        return _history(request, lambda: self._rows(gid))

    def _rows(self, gid: str) -> QuerySet[AuditEntry]:
        rows = audit.of_group(gid)
        if not (rows.exists() or TaskGroup.objects.filter(pk=gid).exists()):
            raise NotFoundError("task group not found")
        return rows


class TaskHistory(OneTask):
    """What people did to the task, alone or with others of its group, newest first."""

    needs = {"GET": READ}
    is_v1 = False
    takes = {"GET": query.PAGING}

    def get(self, request: Request, tid: str) -> HttpResponse:
        return _history(request, lambda: audit.of_task(self.task(tid)))


def _history(request: Request, find: Callable[[], QuerySet[AuditEntry]]) -> HttpResponse:
    after, at = query.after(request), query.page(request, strict=True)
    return json_page(lambda: numbered("entries", find(), "id", wire.audit_entry, after or at))
