"""Many tasks in one call: a whole graph created, and verbs on all tasks that a filter names."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from django.http import HttpRequest, HttpResponse
from rest_framework.request import Request

from .. import audit, control, create
from ..access.callers import OPERATE, WRITE
from ..conf import conf
from ..errors import InvalidInputError
from ..insight import find
from ..insight.find import TaskFilter
from ..rules.spec import TaskSpec, read_attempts, read_bool, read_ids, read_task
from ..verbs import slices
from . import query
from .answers import json_answer
from .base import JSON_TYPE, CrewView
from .body import MOST_VALUES, Body, consumed, parse
from .repeat import once

NDJSON = {"application/x-ndjson", "application/ndjson", "application/jsonl"}
VERB_TAKES = (*query.FILTERS, "all", "dryRun", "limit", "after")
MOST_PER_CALL = 10_000  # tasks of one call with a limit


class BulkCreate(CrewView):
    """Many tasks, in any order, with edges among them: all are stored, or none.

    As JSON, `{"tasks": [...]}`; or as NDJSON, one task a line, many more of them.
    """

    needs = {"POST": WRITE}
    is_repeatable = True
    is_v1 = False
    takes = {"POST": ("dryRun",)}
    max_body = "CREW_MAX_BULK_BYTES"
    reads = {JSON_TYPE, *NDJSON}  # a body without a type may be of either

    def most_bytes(self, request: HttpRequest) -> int:
        is_lines = request.content_type in NDJSON
        return int(conf.CREW_MAX_NDJSON_BYTES) if is_lines else super().most_bytes(request)

    def post(self, request: Request, gid: str) -> HttpResponse:
        self.look_in(gid)
        most = None
        longest = self.most_bytes(request._request)
        if request._request.content_type in NDJSON:
            self.sent = Body(request, longest, self.reads)
            most = conf.CREW_MAX_NDJSON_TASKS
            specs = create.read_specs(_read_lines(self.sent, most))
        else:
            self.sent = Body(request, longest, self.reads)
            specs = create.read_specs(consumed(_listed(self.sent.json(MOST_VALUES))))
        return once(self, request, lambda: self._create(request, gid, specs, most))

    def _create(
        self, request: Request, gid: str, specs: list[TaskSpec], most: int | None
    ) -> dict[str, Any]:
        with query.dry_run(request):
            ids = create.create_tasks(gid, specs, most=most)
        dry = {"dryRun": True} if query.sure(request, "dryRun") else {}
        return {"count": len(ids), "ids": ids} | dry


class BulkVerb(CrewView):
    """A verb on those tasks of a group that the query's filter, or the body's `ids`, name.

    With `?dryRun=1` they are only counted. The look and the verb are one transaction, unless they
    are so many that the verb is done in slices. With `?limit=` it is done to so many of them, the
    oldest first, and the answer's `next` says where the following call goes on (`after`).
    """

    needs = {"POST": OPERATE}
    is_v1 = False
    takes = {"POST": VERB_TAKES}
    body: tuple[str, ...] = ("ids",)

    def post(self, request: Request, gid: str) -> HttpResponse:
        self.look_in(gid)
        sent = self.options(request, self.body)
        which = _named(request, sent)
        limit = _limit(request, which)
        with audit.asking(**query.sent(request, query.FILTERS)):
            if query.sure(request, "dryRun"):
                ids, going_on = self._look(gid, which, limit)
                answer = self.preview(ids, sent)
            else:
                count, going_on = self._do(gid, which, limit, sent)
                answer = {"count": count}
        return json_answer(answer | ({"next": going_on} if limit else {}))

    def _do(
        self, gid: str, which: TaskFilter, limit: int, sent: dict[str, Any]
    ) -> tuple[int, str | None]:
        if not limit and not slices.is_small(gid):
            ids, _ = self._look(gid, which, limit)
            if len(ids) > slices.LIGHT:
                return self.apply(gid, ids, sent), None
        with self.locking(gid):
            ids, going_on = self._look(gid, which, limit)
            return self.apply(gid, ids, sent), going_on

    def locking(self, gid: str) -> AbstractContextManager[None]:
        """What is between the look and the verb on a few tasks: nothing."""
        return slices.alone(gid)

    def _look(self, gid: str, which: TaskFilter, limit: int) -> tuple[list[str], str | None]:
        if limit:
            after = self.request.query_params.get("after", "")
            return find.some_ids(gid, which, after=after, most=limit)
        ids = find.ids(gid, which)
        if which.ids is not None and len(ids) < len(which.ids):
            raise InvalidInputError("some of the ids are not in the group, or do not match")
        return ids, None

    def preview(self, ids: list[str], sent: dict[str, Any]) -> dict[str, Any]:
        """What a dry run tells."""
        return {"count": len(ids)}

    def apply(self, gid: str, ids: list[str], sent: dict[str, Any]) -> int:
        """Do it; return how many tasks it touched."""
        raise NotImplementedError


class PauseTasks(BulkVerb):
    """Start no attempt of these tasks; running ones finish."""

    def apply(self, gid: str, ids: list[str], sent: dict[str, Any]) -> int:
        return control.pause_tasks(gid, ids)


class ResumeTasks(BulkVerb):
    """Take the pause from these tasks."""

    def apply(self, gid: str, ids: list[str], sent: dict[str, Any]) -> int:
        return control.resume_tasks(gid, ids)


class RetryTasks(BulkVerb):
    """Give those that are not complete their attempts back."""

    body = ("ids", "remainingAttempts")

    def apply(self, gid: str, ids: list[str], sent: dict[str, Any]) -> int:
        attempts = read_attempts(sent.get("remainingAttempts"))
        return control.retry_tasks(gid, ids, remaining_attempts=attempts)


class ResetTasks(BulkVerb):
    """Make these tasks as if they had never run; 409 if one of them executes.

    What earlier answers to them made goes when they answer again and do not name it. With
    `keepComplete` what is complete of it stays. A dry run tells how many that are in `replaced`.
    """

    body = ("ids", "remainingAttempts", "keepComplete")

    def preview(self, ids: list[str], sent: dict[str, Any]) -> dict[str, Any]:
        replaced = control.would_replace(ids, keep_complete=keeps_complete(sent))
        return {"count": len(ids), "replaced": len(replaced)}

    def apply(self, gid: str, ids: list[str], sent: dict[str, Any]) -> int:
        attempts = read_attempts(sent.get("remainingAttempts"))
        keep = keeps_complete(sent)
        return control.reset_tasks(gid, ids, remaining_attempts=attempts, keep_complete=keep)


class DeleteTasks(BulkVerb):
    """Delete these tasks, and the descendants that are left without any parent."""

    needs = {"POST": WRITE}
    takes = {"POST": (*VERB_TAKES, "children")}

    def locking(self, gid: str) -> AbstractContextManager[None]:
        """A few tasks may have very many descendants: the verb decides. Of ids that went
        meanwhile it says so."""
        return slices.alone(gid) if slices.is_small(gid) else nullcontext()

    def preview(self, ids: list[str], sent: dict[str, Any]) -> dict[str, Any]:
        going = control.would_delete(ids, children=query.children(self.request))
        return {"count": len(going), "descendants": len(going) - len(ids)}

    def apply(self, gid: str, ids: list[str], sent: dict[str, Any]) -> int:
        return len(control.delete_tasks(gid, ids, children=query.children(self.request)))


def keeps_complete(sent: dict[str, Any]) -> bool:
    """Whether what earlier answers made stays as it is where it is complete."""
    return read_bool(sent.get("keepComplete"), "keepComplete")


def _named(request: Request, sent: dict[str, Any]) -> TaskFilter:
    """Raises InvalidInputError when nothing says which tasks: a slip must not mean "all"."""
    ids = None if sent.get("ids") is None else read_ids(sent["ids"])
    which = query.task_filter(request, ids=ids, strict=True)
    if which.is_empty and not query.sure(request, "all"):
        raise InvalidInputError("name the tasks by a filter or by ids, or say all=1")
    return which


def _limit(request: Request, which: TaskFilter) -> int:
    """How many tasks this call is for; 0 for all."""
    limit = query.whole(request, "limit", 0)
    if "limit" in request.query_params and not 1 <= limit <= MOST_PER_CALL:
        raise InvalidInputError(f"limit goes from 1 to {MOST_PER_CALL}")
    if "after" in request.query_params and not limit:
        raise InvalidInputError("after goes with limit")
    if limit and which.ids is not None:
        raise InvalidInputError("limit goes with a filter, not with ids")
    return limit


def _listed(value: Any) -> list[Any]:
    if isinstance(value, dict) and value.keys() == {"tasks"}:
        value = value["tasks"]
    if not isinstance(value, list):
        raise InvalidInputError('the body must be {"tasks": [...]}')
    return value


def _read_lines(body: Body, most: int) -> Iterator[TaskSpec]:
    for place, (number, line) in enumerate(body.lines(conf.CREW_MAX_BODY_BYTES)):
        if place == most:
            raise InvalidInputError(f"more than {most} tasks in one call")
        try:
            yield read_task(parse(line), max_input=conf.CREW_MAX_INPUT_BYTES)
        except InvalidInputError as error:
            raise InvalidInputError(f"line {number}: {error}") from error
