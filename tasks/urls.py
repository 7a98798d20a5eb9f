"""The API, for any prefix: `path("crew/", include("tasks.urls"))`.

Reversible as `crew:NAME`. No path ends in a slash (contract 1.1).
"""

from django.urls import URLPattern, path, re_path, register_converter
from django.urls.converters import StringConverter

from .api import bulk, docs, fleet, groups, history, insight, login, tasks, unknown

app_name = "crew"


class NameConverter(StringConverter):
    """The name of a worker or workgroup: slashes and line breaks may be in it."""

    regex = r"[\s\S]+"


register_converter(NameConverter, "crew_name")

GROUPS = "api/v1/task_groups"
GROUP = "api/v1/task_group/<str:gid>"
TASKS = f"{GROUP}/tasks"
TASK = f"{GROUP}/task/<str:tid>"
ONE = "api/v1/task/<str:tid>"
WORKGROUP = "api/v1/workgroup/<crew_name:name>"

urlpatterns: list[URLPattern] = [
    path("healthz", unknown.Healthz.as_view(), name="healthz"),
    path("healthz/ready", unknown.Ready.as_view(), name="ready"),
    path("login", login.Login.as_view(), name="login"),
    path("logout", login.Logout.as_view(), name="logout"),
    path("authcheck", login.AuthCheck.as_view(), name="authcheck"),
    path("api/v1/stream_ticket", login.StreamTicket.as_view(), name="stream-ticket"),
    path(GROUPS, groups.Groups.as_view(), name="groups"),
    path(f"{GROUPS}/now", insight.GroupsNow.as_view(), name="groups-now"),
    path(GROUP, groups.Group.as_view(), name="group"),
    path(f"{GROUP}/progress", groups.GroupProgress.as_view(), name="group-progress"),
    path(f"{GROUP}/reset", groups.ResetGroup.as_view(), name="group-reset"),
    path(f"{GROUP}/retry", groups.RetryGroup.as_view(), name="group-retry"),
    path(f"{GROUP}/pause", groups.PauseGroup.as_view(), name="group-pause"),
    path(f"{GROUP}/resume", groups.ResumeGroup.as_view(), name="group-resume"),
    path(f"{GROUP}/cancel", groups.CancelGroup.as_view(), name="group-cancel"),
    path(f"{GROUP}/stream/<str:token>", unknown.NotWebsocket.as_view(), name="group-stream"),
    path(TASKS, tasks.Tasks.as_view(), name="tasks"),
    path(f"{TASKS}/bulk", bulk.BulkCreate.as_view(), name="tasks-bulk"),
    path(f"{TASKS}/pause", bulk.PauseTasks.as_view(), name="tasks-pause"),
    path(f"{TASKS}/resume", bulk.ResumeTasks.as_view(), name="tasks-resume"),
    path(f"{TASKS}/retry", bulk.RetryTasks.as_view(), name="tasks-retry"),
    path(f"{TASKS}/reset", bulk.ResetTasks.as_view(), name="tasks-reset"),
    path(f"{TASKS}/delete", bulk.DeleteTasks.as_view(), name="tasks-delete"),
    path(TASK, tasks.TaskDetail.as_view(), name="task"),
    path(f"{TASK}/reset", tasks.ResetTask.as_view(), name="task-reset"),
    path(f"{TASK}/retry", tasks.RetryTask.as_view(), name="task-retry"),
    path(f"{TASK}/rerun", tasks.RerunTask.as_view(), name="task-rerun"),
    path(ONE, tasks.TaskById.as_view(), name="task-by-id"),
    path(f"{ONE}/attempts", tasks.TaskAttempts.as_view(), name="task-attempts"),
    path(f"{ONE}/attempts/<str:number>", tasks.OneAttempt.as_view(), name="task-attempt"),
    path(f"{ONE}/history", history.TaskHistory.as_view(), name="task-history"),
    path(f"{ONE}/children", tasks.Children.as_view(), name="task-children"),
    path(f"{ONE}/parents", tasks.Parents.as_view(), name="task-parents"),
    path(f"{ONE}/explain", insight.Explain.as_view(), name="task-explain"),
    path(f"{ONE}/call", insight.Call.as_view(), name="task-call"),
    path(f"{ONE}/around", insight.Around.as_view(), name="task-around"),
    path(f"{GROUP}/graph", insight.Graph.as_view(), name="group-graph"),
    path(f"{GROUP}/graph/bucket", insight.GraphBucket.as_view(), name="graph-bucket"),
    path(f"{GROUP}/timeline", insight.Timeline.as_view(), name="group-timeline"),
    path(f"{GROUP}/history", history.GroupHistory.as_view(), name="group-history"),
    path("api/v1/failures", insight.Failures.as_view(), name="failures"),
    path("api/v1/failure/<str:key>/retry", insight.RetryFailure.as_view(), name="failure-retry"),
    path("api/v1/overview", insight.Overview.as_view(), name="overview"),
    path("api/v1/fleet", fleet.Fleet.as_view(), name="fleet"),
    path("api/v1/workers", fleet.Workers.as_view(), name="workers"),
    path("api/v1/worker/<crew_name:name>", fleet.OneWorker.as_view(), name="worker"),
    path("api/v1/workgroups", fleet.Workgroups.as_view(), name="workgroups"),
    path(f"{WORKGROUP}/now", fleet.OneWorkgroup.as_view(), name="workgroup-now"),
    path(f"{WORKGROUP}/hold", fleet.HoldWorkgroup.as_view(), name="workgroup-hold"),
    path(f"{WORKGROUP}/open", fleet.OpenWorkgroup.as_view(), name="workgroup-open"),
    path("api/v1/openapi.json", docs.OpenAPI.as_view(routes=lambda: urlpatterns), name="openapi"),
    path("api/v1/docs", docs.SwaggerUI.as_view(), name="docs"),
    re_path(r"^api/", unknown.Unknown.as_view(), name="unknown"),
]
