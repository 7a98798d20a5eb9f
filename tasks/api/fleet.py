"""The routes of workers and workgroups, which all groups share."""

from collections.abc import Iterable
from typing import Any

from django.db.models import Count
from django.db.models.functions import Now
from django.http import HttpResponse
from rest_framework.request import Request

from .. import limits_and_holds
from ..access.callers import OPERATE, READ
from ..errors import InvalidInputError, NotFoundError
from ..insight.fleet import detail, now
from ..insight.fleet.resting import rests
from ..models import CutCall, Task, Worker, Workgroup
from ..sql.one_look import one_look
from ..store import wire
from . import query
from .answers import json_answer
from .base import CrewView
from .changes import Field, read_changes
from .lists import by_name


class Fleet(CrewView):
    """Schedulers, holds, workers and the last hour: what all groups share."""

    needs = {"GET": READ}
    is_v1 = False

    def get(self, request: Request) -> HttpResponse:
        self.needs_all_groups()
        at, seen = now.fleet()
        return json_answer({"at": wire.time(at)} | wire.plain(seen))


class Workers(CrewView):
    """Workers by name, with their limit and the attempts they have in flight."""

    needs = {"GET": READ}
    is_v1 = False
    takes = {"GET": query.PAGING}

    def get(self, request: Request) -> HttpResponse:
        self.needs_all_groups()
        rows, after = Worker.objects.order_by("name"), query.after(request)
        at = query.page(request, strict=True)
        with one_look():
            if after:
                return by_name("workers", rows, after, _workers)
            return json_answer({"count": rows.count(), "workers": _workers(list(at.of(rows)))})


def _limit(value: object) -> int:
    if type(value) is not int:
        raise InvalidInputError("maxConcurrency must be a whole number")
    return value


LIMITS = {"maxConcurrency": Field("max_concurrency", _limit, empty=None)}


class OneWorker(CrewView):
    """A worker closely; and how many attempts it may have in flight.

    `"clear": ["maxConcurrency"]` gives it the default again; null leaves its limit.
    `"tryNow": true` ends the rest of a worker that failed.
    """

    needs = {"GET": READ, "PUT": OPERATE}
    is_v1 = False

    def get(self, request: Request, name: str) -> HttpResponse:
        self.needs_all_groups()
        return json_answer(wire.plain(detail.worker(name)))

    def put(self, request: Request, name: str) -> HttpResponse:
        self.needs_all_groups()
        sent = self.fields(request, (*LIMITS, "tryNow", "clear"))
        if not sent:
            raise InvalidInputError("maxConcurrency is missing")
        tries = sent.pop("tryNow", None)
        if tries is not None and tries is not True:
            raise InvalidInputError("tryNow must be true")
        changes = read_changes(sent, LIMITS)
        if changes:
            limits_and_holds.limit_worker(name, **changes)
        if tries:
            limits_and_holds.try_worker(name)
        row = Worker.objects.filter(pk=name).first()
        if row is None:
            raise NotFoundError("worker not found")
        return json_answer(_workers([row])[0])


class Workgroups(CrewView):
    """Workgroups that were ever held, those held longest from now first; with `after` by name."""

    needs = {"GET": READ}
    is_v1 = False
    takes = {"GET": query.PAGING}

    def get(self, request: Request) -> HttpResponse:
        self.needs_all_groups()
        after, at = query.after(request), query.page(request, strict=True)
        rows = Workgroup.objects.order_by("-held_until", "name")
        with one_look():
            held = Workgroup.objects.filter(held_until__gt=Now())
            names = set(held.values_list("name", flat=True))

            def shown(some: Iterable[Workgroup]) -> list[wire.Json]:
                return [_workgroup(row, row.name in names) for row in some]

            if after:
                return by_name("workgroups", rows, after, shown)
            return json_answer({"count": rows.count(), "workgroups": shown(at.of(rows))})


class OneWorkgroup(CrewView):
    """A workgroup closely: its hold, what it keeps back, and what runs."""

    needs = {"GET": READ}
    is_v1 = False

    def get(self, request: Request, name: str) -> HttpResponse:
        self.needs_all_groups()
        return json_answer(wire.plain(detail.workgroup(name)))


class HoldWorkgroup(CrewView):
    """Claim no task of the workgroup for so many seconds from now, in any group."""

    needs = {"POST": OPERATE}
    is_v1 = False

    def post(self, request: Request, name: str) -> HttpResponse:
        self.needs_all_groups()
        seconds = self.fields(request, ("seconds",)).get("seconds")
        if isinstance(seconds, bool) or not isinstance(seconds, int | float):
            raise InvalidInputError("seconds must be a number")
        limits_and_holds.hold_workgroup(name, seconds=seconds)
        return json_answer(_workgroup(Workgroup.objects.get(pk=name), seconds > 0))


class OpenWorkgroup(CrewView):
    """End a hold now."""

    needs = {"POST": OPERATE}
    is_v1 = False

    def post(self, request: Request, name: str) -> HttpResponse:
        self.needs_all_groups()
        self.options(request, ())
        if not Workgroup.objects.filter(pk=name).exists():
            raise NotFoundError("workgroup not found")
        limits_and_holds.hold_workgroup(name, seconds=0)
        return json_answer(_workgroup(Workgroup.objects.get(pk=name), False))


def _workers(rows: list[Worker]) -> list[wire.Json]:
    leased = Task.objects.filter(worker__in=[row.name for row in rows], leased_by__isnull=False)
    flying: dict[str, Any] = dict(leased.values_list("worker").annotate(n=Count("*")))
    ending = CutCall.objects.by_worker()
    ill = rests(row.name for row in rows)
    return [
        {
            "name": row.name,
            "maxConcurrency": row.max_concurrency,
            "limit": row.limit,
            "inFlight": flying.get(row.name, 0) + ending.get(row.name, 0),
            "rest": wire.plain(ill[row.name]) if row.name in ill else None,
        }
        for row in rows
    ]


def _workgroup(row: Workgroup, is_held: bool) -> wire.Json:
    return {
        "name": row.name,
        "isHeld": is_held,
        "heldUntil": wire.time(row.held_until),
        "heldBy": row.held_by,
    }
