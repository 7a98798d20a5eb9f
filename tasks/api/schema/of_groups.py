"""Groups, workers and workgroups, described."""

from collections.abc import Mapping
from typing import Any

from rest_framework.views import APIView

from .. import fleet, groups
from . import shapes
from .words import (
    BODY,
    DRY_RUN,
    EXAMPLE_GROUP,
    IF_MATCH,
    IF_NONE_MATCH,
    JSON,
    NEW_TASKS,
    NOT_MODIFIED,
    ONCE,
    OUR_LIST,
    OURS,
    PAGE,
    PICTURE,
    SEARCH,
    WARNING,
    answers,
    operation,
)


def _group_verb(name: str, summary: str, *, takes_attempts: bool = False) -> dict[str, Any]:
    options: dict[str, Any] = {"tags": ["groups"]}
    if takes_attempts:
        options |= {"request": {JSON: shapes.Attempts}, "body": {"remainingAttempts": 5}}
    responses = answers(shapes.Success, 404, 409, *BODY, example={"success": True})
    return {"post": operation(f"{name}_group", summary, responses, **options)}


def _look(name: str, summary: str, *statuses: int) -> dict[str, Any]:
    return {
        "get": operation(name, summary, answers(PICTURE, 400, *statuses, **OURS), tags=["fleet"])
    }


DESCRIBED: Mapping[type[APIView], Mapping[str, Any]] = {
    groups.Groups: {
        "get": operation(
            "list_groups",
            "List groups",
            answers(shapes.GroupList, 400, example={"count": 1, "taskGroups": [EXAMPLE_GROUP]}),
            tags=["groups"],
            parameters=[*PAGE, SEARCH],
        ),
        "post": operation(
            "create_group",
            "Create a group, with its tasks",
            answers(shapes.Group, 409, 422, *BODY, example=EXAMPLE_GROUP),
            tags=["groups"],
            request={JSON: shapes.NewGroup},
            body={"name": "Nightly import", "tasks": NEW_TASKS},
            parameters=[DRY_RUN, ONCE, WARNING],
        ),
    },
    groups.Group: {
        "get": operation(
            "get_group",
            "One group",
            answers(shapes.Group, 404, example=EXAMPLE_GROUP, extra=NOT_MODIFIED),
            tags=["groups"],
            parameters=[IF_NONE_MATCH],
        ),
        "put": operation(
            "rename_group",
            "Rename a group",
            answers(shapes.Group, 404, 409, 412, *BODY, example=EXAMPLE_GROUP),
            tags=["groups"],
            request={JSON: shapes.GroupName},
            body={"name": "Nightly import"},
            parameters=[IF_MATCH],
        ),
        "delete": operation(
            "delete_group",
            "Delete a group and its tasks",
            answers(
                shapes.Deleted,
                404,
                409,
                412,
                *BODY,
                example={"deleted": True, "id": EXAMPLE_GROUP["id"]},
            ),
            tags=["groups"],
            parameters=[IF_MATCH],
        ),
    },
    groups.GroupProgress: {
        "get": operation(
            "group_progress",
            "How far a group is",
            answers(shapes.Progress, example={"completedPercent": 0.5, "total": 2, "complete": 1}),
            tags=["groups"],
        )
    },
    groups.ResetGroup: _group_verb("reset", "Reset a group", takes_attempts=True),
    groups.RetryGroup: _group_verb("retry", "Retry a group", takes_attempts=True),
    groups.PauseGroup: _group_verb("pause", "Pause a group"),
    groups.ResumeGroup: _group_verb("resume", "Resume a group"),
    groups.CancelGroup: {
        "post": operation(
            "cancel_group",
            "Cancel a group",
            answers(
                shapes.SuccessCount, 404, 409, *BODY, example={"success": True, "count": 2}, **OURS
            ),
            tags=["groups"],
        )
    },
    fleet.Workers: {
        "get": operation(
            "list_workers",
            "List workers",
            answers(shapes.WorkerList, 400, **OURS),
            tags=["fleet"],
            parameters=OUR_LIST,
        )
    },
    fleet.Fleet: _look("fleet_now", "Schedulers, holds, workers and the last hour"),
    fleet.OneWorker: {
        "get": _look("worker_now", "A worker closely", 404)["get"],
        "put": operation(
            "limit_worker",
            "Limit a worker",
            answers(shapes.Worker, 404, 409, *BODY, **OURS),
            tags=["fleet"],
            request={JSON: shapes.WorkerLimit},
            body={"maxConcurrency": 10},
        ),
    },
    fleet.Workgroups: {
        "get": operation(
            "list_workgroups",
            "List workgroups",
            answers(shapes.WorkgroupList, 400, **OURS),
            tags=["fleet"],
            parameters=OUR_LIST,
        )
    },
    fleet.OneWorkgroup: _look("workgroup_now", "A workgroup closely", 404),
    fleet.HoldWorkgroup: {
        "post": operation(
            "hold_workgroup",
            "Hold a workgroup",
            answers(shapes.Workgroup, 409, *BODY, **OURS),
            tags=["fleet"],
            request={JSON: shapes.Hold},
            body={"seconds": 30},
        )
    },
    fleet.OpenWorkgroup: {
        "post": operation(
            "open_workgroup",
            "Open a workgroup",
            answers(shapes.Workgroup, 404, 409, *BODY, **OURS),
            tags=["fleet"],
        )
    },
}
