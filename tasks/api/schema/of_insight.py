"""What looks through tasks and groups, described."""

from collections.abc import Mapping
from typing import Any

from rest_framework.views import APIView

from .. import insight, shapes
from .words import BODY, DRY_RUN, JSON, OUR_PAGE, OURS, Parameter, answers, operation

# Pictures for pages: their keys are told in `tasks/picture.py`, `timeline.py` and `overview.py`.
PICTURE = {"type": "object", "additionalProperties": True}
NOT_NEGATIVE = {"type": "integer", "minimum": 0, "maximum": 10**9}
GROUP = Parameter("group", {"type": "string", "maxLength": 200}, "Only of this group.")


def _look(id_: str, summary: str, shape: Any, *statuses: int, **options: Any) -> dict[str, Any]:
    told = answers(shape, *statuses, **OURS)
    return {"get": operation(id_, summary, told, tags=["insight"], **options)}


DESCRIBED: Mapping[type[APIView], Mapping[str, Any]] = {
    insight.Overview: _look("overview", "Groups at work, and the fleet", PICTURE, 400),
    insight.Explain: _look(
        "explain_task", "Why a task is not running", shapes.Explanation, 400, 404
    ),
    insight.Around: _look("task_around", "The graph around a task", PICTURE, 400, 404),
    insight.Graph: _look("group_graph", "The graph of a group", PICTURE, 400, 404),
    insight.GraphBucket: _look(
        "graph_bucket",
        "The tasks of a node of a summed graph",
        shapes.TaskIds,
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
        shapes.FailureList,
        400,
        404,
        parameters=[*OUR_PAGE, GROUP],
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
