"""What looks through tasks and groups, described."""

from collections.abc import Mapping
from typing import Any

from rest_framework import serializers as s
from rest_framework.views import APIView

from .. import insight
from . import shapes
from .shapes import STATES
from .words import BODY, DRY_RUN, JSON, OUR_PAGES, OURS, PICTURE, Parameter, answers, operation

NOT_NEGATIVE = {"type": "integer", "minimum": 0, "maximum": 10**9}
IDS = {"type": "string", "pattern": "^([A-Za-z0-9][A-Za-z0-9._:-]{0,40}(,|$)){0,20}$"}
GROUP = Parameter("group", {"type": "string", "maxLength": 200}, "Only of this group.")


def _look(id_: str, summary: str, shape: Any, *statuses: int, **options: Any) -> dict[str, Any]:
    responses = answers(shape, *statuses, **OURS)
    return {"get": operation(id_, summary, responses, tags=["insight"], **options)}


class Gate(s.Serializer):  # type: ignore[misc]
    """One reason to wait."""

    code = s.ChoiceField(
        choices=[
            "group_paused",
            "paused",
            "parents",
            "scheduled",
            "duplicate",
            "ending",
            "held",
            "worker_rests",
            "worker_ramp",
            "worker_full",
            "exhausted",
            "no_worker",
            "no_scheduler",
            "no_slot",
            "slots_kept",
            "group_locked",
            "task_locked",
            "refused",
        ]
    )
    text = s.CharField()
    opensItself = s.BooleanField(help_text="Nobody has to do anything.")
    until = s.DateTimeField(allow_null=True)
    tasks = s.ListField(child=s.CharField(), help_text="At most ten of `count`.")
    count = s.IntegerField()
    worker = s.CharField(allow_blank=True)
    workgroup = s.CharField(allow_blank=True)


class Explanation(s.Serializer):  # type: ignore[misc]
    state = s.ChoiceField(choices=STATES)
    gates = Gate(many=True)
    startsItself = s.BooleanField()
    mergedInto = s.CharField(allow_null=True, help_text="The task of its key that ran for it.")
    createdBy = s.CharField(allow_blank=True, help_text="The task whose answer made it.")


class Call(s.Serializer):  # type: ignore[misc]
    """A call as it would go out now."""

    worker = s.CharField(allow_blank=True)
    url = s.CharField(allow_blank=True)
    refused = s.CharField(allow_blank=True, help_text="Why it would not go out.")
    headers = s.DictField(child=s.CharField())
    body = s.CharField(help_text="The exact text, but for its end if `isCut`.")
    size = s.IntegerField(help_text="Bytes of the body.")
    isCut = s.BooleanField()


class Failure(s.Serializer):  # type: ignore[misc]
    """Failed tasks of one worker with one kind of error."""

    key = s.CharField()
    worker = s.CharField(allow_blank=True)
    fingerprint = s.CharField(allow_blank=True)
    count = s.IntegerField()
    newestAt = s.DateTimeField()
    error = s.CharField(allow_blank=True)
    status = s.IntegerField(allow_null=True)
    taskId = s.CharField()
    groupIds = s.ListField(child=s.CharField(), help_text="Some of `groupCount`.")
    groupCount = s.IntegerField()


class FailureList(s.Serializer):  # type: ignore[misc]
    found = Failure(many=True)
    kinds = s.IntegerField()
    total = s.IntegerField()
    isCapped = s.BooleanField(help_text="Only the newest were grouped.")


class TaskIds(s.Serializer):  # type: ignore[misc]
    count = s.IntegerField()
    page = s.IntegerField()
    pages = s.IntegerField()
    ids = s.ListField(child=s.CharField())


DESCRIBED: Mapping[type[APIView], Mapping[str, Any]] = {
    insight.Overview: _look("overview", "Groups at work, and the fleet", PICTURE, 400),
    insight.GroupsNow: _look(
        "groups_now",
        "How far some groups are",
        PICTURE,
        400,
        parameters=[Parameter("ids", IDS, "At most 200 ids with commas between them.")],
    ),
    insight.Explain: _look("explain_task", "Why a task is not running", Explanation, 400, 404),
    insight.Call: _look("task_call", "The call a worker would get now", Call, 400, 404),
    insight.Around: _look("task_around", "The graph around a task", PICTURE, 400, 404),
    insight.Graph: _look("group_graph", "The graph of a group", PICTURE, 400, 404),
    insight.GraphBucket: _look(
        "graph_bucket",
        "The tasks of a node of a summed graph",
        TaskIds,
        400,
        404,
        parameters=[
            Parameter("band", NOT_NEGATIVE, "The node's band."),
            Parameter("worker", {"type": "string", "maxLength": 200}, "Without: all the others."),
            Parameter("page", NOT_NEGATIVE, "Counts from 1."),
        ],
    ),
    insight.Timeline: _look("group_timeline", "Attempts over time", PICTURE, 400, 404),
    insight.Failures: _look(
        "list_failures",
        "What failed for good, by worker and kind of error",
        FailureList,
        400,
        404,
        parameters=[*OUR_PAGES, GROUP],
    ),
    insight.RetryFailure: {
        "post": operation(
            "retry_failure",
            "Retry all tasks of one kind of failure",
            answers(shapes.Count, 404, 409, *BODY, example={"count": 412}, **OURS),
            tags=["insight"],
            request={JSON: shapes.Attempts},
            body={"remainingAttempts": 5},
            parameters=[GROUP, DRY_RUN],
        )
    },
}
