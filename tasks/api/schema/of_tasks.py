"""Tasks, one and many, described."""

from collections.abc import Mapping
from typing import Any

from rest_framework.views import APIView

from .. import bulk, tasks
from . import shapes
from .words import (
    BODY,
    CHILDREN,
    DRY_RUN,
    EXAMPLE_TASK,
    FILTER,
    IF_MATCH,
    IF_NONE_MATCH,
    JSON,
    NDJSON,
    NEW_TASKS,
    NOT_MODIFIED,
    ONCE,
    OUR_LIST,
    OURS,
    PAGE,
    WARNING,
    Parameter,
    answers,
    operation,
)

BULK = {
    "tags": ["bulk"],
    "request": {JSON: shapes.SomeTasks},
    "parameters": [
        *FILTER,
        Parameter("all", bool, "Every task of the group."),
        DRY_RUN,
        Parameter(
            "limit",
            {"type": "integer", "minimum": 1, "maximum": bulk.MOST_PER_CALL},
            "Do it to so many, the oldest first, in this call. Not with ids.",
        ),
        Parameter("after", {"type": "string"}, "Go on behind this place, a `next` of an answer."),
    ],
    "body": {"ids": ["fetch-17", "fetch-18"]},
}
NEW_TASKS_BODY = {
    JSON: shapes.NewTasks,
    NDJSON: {"type": "string", "description": "One task a line, each as JSON."},
}


def _task_verb(name: str, summary: str) -> dict[str, Any]:
    responses = answers(shapes.Task, 404, 409, *BODY, example=EXAMPLE_TASK)
    options: dict[str, Any] = {"request": {JSON: shapes.Attempts}, "body": {"remainingAttempts": 5}}
    return {"post": operation(f"{name}_task", summary, responses, tags=["tasks"], **options)}


def _bulk_verb(name: str) -> dict[str, Any]:
    responses = answers(shapes.BulkCount, 404, 409, *BODY, example={"count": 2}, **OURS)
    return {"post": operation(f"{name}_tasks", f"{name.title()} many tasks", responses, **BULK)}


def _relatives(name: str) -> dict[str, Any]:
    responses = answers(shapes.TaskList, 400, 404, **OURS)
    return {
        "get": operation(
            f"task_{name}", f"The {name} of a task", responses, tags=["tasks"], parameters=OUR_LIST
        )
    }


DESCRIBED: Mapping[type[APIView], Mapping[str, Any]] = {
    tasks.Tasks: {
        "get": operation(
            "list_tasks",
            "List the tasks of a group",
            answers(shapes.TaskList, 400, example={"count": 1, "tasks": [EXAMPLE_TASK]}),
            tags=["tasks"],
            parameters=[*PAGE, *FILTER],
        ),
        "post": operation(
            "create_task",
            "Create a task",
            answers(shapes.Task, 404, 409, 422, *BODY, example=EXAMPLE_TASK),
            tags=["tasks"],
            request={JSON: shapes.NewTask},
            body=NEW_TASKS[0],
            parameters=[DRY_RUN, ONCE, WARNING],
        ),
    },
    tasks.TaskDetail: {
        "get": operation(
            "get_task",
            "One task",
            answers(shapes.Task, 404, example=EXAMPLE_TASK, extra=NOT_MODIFIED),
            tags=["tasks"],
            parameters=[IF_NONE_MATCH],
        ),
        "put": operation(
            "edit_task",
            "Edit a task",
            answers(shapes.Task, 404, 409, 412, *BODY, example=EXAMPLE_TASK),
            tags=["tasks"],
            request={JSON: shapes.TaskChange},
            body={"isPaused": True},
            parameters=[IF_MATCH],
        ),
        "delete": operation(
            "delete_task",
            "Delete a task",
            answers(
                shapes.Deleted, 404, 409, 412, *BODY, example={"deleted": True, "id": "fetch-17"}
            ),
            tags=["tasks"],
            parameters=[CHILDREN, IF_MATCH],
        ),
    },
    tasks.ResetTask: _task_verb("reset", "Reset a task"),
    tasks.RetryTask: _task_verb("retry", "Retry a task"),
    tasks.RerunTask: {
        "post": operation(
            "rerun_task",
            "Change the input of a task and run it again",
            answers(shapes.Task, 404, 409, *BODY, example=EXAMPLE_TASK, **OURS),
            tags=["tasks"],
            request={JSON: shapes.Rerun},
            body={"input": {"page": 18}, "remainingAttempts": 3},
        )
    },
    tasks.TaskById: {
        "get": operation(
            "get_task_by_id",
            "One task, whatever its group",
            answers(shapes.Task, 404, example=EXAMPLE_TASK, extra=NOT_MODIFIED),
            tags=["tasks"],
            parameters=[IF_NONE_MATCH],
        )
    },
    tasks.TaskAttempts: {
        "get": operation(
            "task_attempts",
            "The attempts of a task",
            answers(shapes.AttemptList, 400, 404, **OURS),
            tags=["tasks"],
            parameters=OUR_LIST,
        )
    },
    tasks.OneAttempt: {
        "get": operation(
            "task_attempt",
            "An attempt, with what is kept of its request and answer",
            answers(shapes.WholeAttempt, 400, 404, **OURS),
            tags=["tasks"],
        )
    },
    tasks.Children: _relatives("children"),
    tasks.Parents: _relatives("parents"),
    bulk.BulkCreate: {
        "post": operation(
            "create_tasks",
            "Create many tasks",
            answers(
                shapes.CreatedTasks,
                404,
                409,
                422,
                *BODY,
                example={"count": 2, "ids": ["login", "fetch-17"]},
                **OURS,
            ),
            tags=["bulk"],
            request=NEW_TASKS_BODY,
            body={"tasks": NEW_TASKS},
            parameters=[DRY_RUN, ONCE, WARNING],
        )
    },
    bulk.PauseTasks: _bulk_verb("pause"),
    bulk.ResumeTasks: _bulk_verb("resume"),
    bulk.RetryTasks: _bulk_verb("retry"),
    bulk.ResetTasks: _bulk_verb("reset"),
    bulk.DeleteTasks: _bulk_verb("delete"),
}
