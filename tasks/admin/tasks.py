"""Tasks in the admin."""

from collections import defaultdict
from functools import partial
from typing import Any

from django.contrib import admin, messages
from django.contrib.admin.helpers import ACTION_CHECKBOX_NAME
from django.contrib.admin.utils import quote
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils import timezone
from django.utils.html import format_html, format_html_join
from django.utils.http import urlencode
from django.utils.safestring import SafeString

from .. import control, create, edit
from ..audit import Kind
from ..models import ParentEdge, Task, TaskGroup
from ..rules.states import State
from ..store.states import STATE
from ..verbs import slices
from .attempts import AttemptInline
from .base import NONE, CrewAdmin, link, plural, pretty
from .filters import StateFilter, WorkerFilter
from .forms import OWN, NewTaskForm, TaskForm

LINKS = 100  # parents or children shown on a task's page

_EDITED = tuple(field.column for field in OWN if field.column != "is_complete")
_MACHINE = (
    "attempt",
    "leased_by",
    "leased_at",
    "pending_parents",
    "follows",
    "made_by",
    "keeps_complete",
    "held_count",
    "rescues",
    "created_at",
    "completed_at",
)


class WithoutPayload:
    """A list that leaves out what may be megabytes a row and is not shown."""

    def get_queryset(self, *args: Any, **kwargs: Any) -> Any:
        return super().get_queryset(*args, **kwargs).defer("input", "output", "errors")  # type: ignore[misc]


@admin.register(Task)
class TaskAdmin(CrewAdmin):
    kind, audited = Kind.TASK, ("create",)
    change_form_template = "crew/admin/task.html"
    history_at = "#crew-history"
    list_display = (
        "id",
        "name",
        "in_group",
        "worker",
        "workgroup",
        "state_in_words",
        "attempt",
        "remaining_attempts",
    )
    list_filter = (StateFilter, "is_complete", "is_paused", WorkerFilter)
    search_fields = ("=id", "name__startswith", "=key")
    ordering = ("-id",)
    raw_id_fields = ("group",)
    linked_by = ("group__id__exact",)
    prefilled = ("group", "parents")
    actions = ("pause", "resume", "retry", "reset")

    def get_queryset(self, request: HttpRequest) -> Any:
        return super().get_queryset(request).annotate(state=STATE)

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> Any:
        return type("TaskList", (WithoutPayload, super().get_changelist(request, **kwargs)), {})

    # --- The form ---

    def get_form(
        self, request: HttpRequest, obj: Any = None, change: bool = False, **kwargs: Any
    ) -> Any:
        kwargs["form"] = TaskForm if obj else NewTaskForm
        return super().get_form(request, obj, change, **kwargs)

    def get_inlines(self, request: HttpRequest, obj: Any) -> list[Any]:
        return [AttemptInline] if obj else []

    def get_fieldsets(self, request: HttpRequest, obj: Any = None) -> Any:
        if obj is None:
            fields = ("new_id", "group", *_EDITED, "is_complete", "input", "parents")
            return [(None, {"fields": fields})]
        may_edit = self.has_change_permission(request, obj)
        payloads = ("input", "output") if may_edit else ("input_shown", "output_shown")
        data = ("is_complete", *payloads, "errors_listed")
        links = ("parent_links", "child_links")
        graph = ("parents", *links) if may_edit else links
        return [
            (None, {"fields": ("id", "in_group", "state_in_words", *_EDITED)}),
            ("Data", {"fields": data}),
            ("Graph", {"fields": graph}),
            ("Kept by Crew", {"fields": (*_MACHINE, "all_attempts")}),
        ]

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        if obj is None:
            return ()
        derived = ["state_in_words", "errors_listed", "parent_links", "child_links"]
        if not self.has_change_permission(request, obj):
            derived += ["input_shown", "output_shown"]
        return ("id", "in_group", *derived, "all_attempts", *_MACHINE)

    def save_model(self, request: HttpRequest, obj: Any, form: Any, change: bool) -> None:
        if not change:
            (obj.pk,) = create.create_tasks(obj.group_id, [form.wire()])
            return
        with slices.alone(obj.group_id):
            form.refuse_stale()
            if changes := form.changes():
                edit.edit_task(obj.group_id, obj.pk, changes)

    def response_add(self, request: HttpRequest, obj: Any, *args: Any, **kwargs: Any) -> Any:
        """With "Add another" it stays in the group, else it goes on to the new task."""
        response = super().response_add(request, obj, *args, **kwargs)
        if "_addanother" in request.POST:
            return HttpResponseRedirect(f"{request.path}?{urlencode({'group': obj.group_id})}")
        if "_continue" in request.POST or "_popup" in request.POST:
            return response
        return HttpResponseRedirect(self._page_of(obj))

    def response_post_save_change(self, request: HttpRequest, obj: Any) -> HttpResponseRedirect:
        """Back to the task, not to the list of all groups' tasks."""
        return HttpResponseRedirect(self._page_of(obj))

    def _page_of(self, task: Task) -> str:
        return reverse(f"{self.admin_site.name}:crew_task_change", args=[quote(task.pk)])

    # --- Deleting ---

    def get_deleted_objects(self, objs: Any, request: HttpRequest) -> Any:
        """Django would follow edges and attempts; their permissions are not asked for here."""
        count = objs.count() if isinstance(objs, QuerySet) else len(objs)
        listed = [str(task) for task in objs[:LINKS]]
        if count > LINKS:
            listed.append(f"and {count - LINKS} more")
        listed.append("and every descendant that is left without any parent")
        return listed, {"tasks": count}, set(), []

    def delete_model(self, request: HttpRequest, obj: Any) -> None:
        control.delete_tasks(obj.group_id, [obj.pk])

    def delete_queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> None:
        self._each_group(request, queryset, control.delete_tasks, "Deleted, descendants included:")

    # --- Actions ---

    @admin.action(description="Pause selected tasks", permissions=["change"])
    def pause(self, request: HttpRequest, queryset: QuerySet[Task]) -> None:
        self._each_group(request, queryset, control.pause_tasks, "Paused")

    @admin.action(description="Resume selected tasks", permissions=["change"])
    def resume(self, request: HttpRequest, queryset: QuerySet[Task]) -> None:
        self._each_group(request, queryset, control.resume_tasks, "Resumed")

    @admin.action(description="Retry selected tasks", permissions=["change"])
    def retry(self, request: HttpRequest, queryset: QuerySet[Task]) -> None:
        self._each_group(request, queryset, control.retry_tasks, "Gave attempts back to")

    @admin.action(description="Reset selected tasks…", permissions=["change"])
    def reset(self, request: HttpRequest, queryset: QuerySet[Task]) -> HttpResponse | None:
        if request.POST.get("confirmed"):
            keep = "keep_complete" in request.POST
            self._each_group(
                request, queryset, partial(control.reset_tasks, keep_complete=keep), "Reset"
            )
            return None
        context = {
            **self.admin_site.each_context(request),
            "title": "Reset tasks",
            "opts": self.opts,
            "media": self.media,
            "what": plural(queryset.count(), "task"),
            "replaced": len(control.would_replace(list(queryset.values_list("id", flat=True)))),
            "first": queryset[:LINKS],
            "checkbox": ACTION_CHECKBOX_NAME,
            "picked": request.POST.getlist(ACTION_CHECKBOX_NAME),
            "across": request.POST.get("select_across", "0"),
        }
        return TemplateResponse(request, "crew/admin/reset_tasks.html", context)

    def _each_group(
        self, request: HttpRequest, queryset: QuerySet[Task], verb: Any, past: str
    ) -> None:
        by_group: defaultdict[str, list[str]] = defaultdict(list)
        for group_id, id_ in queryset.order_by().values_list("group_id", "id"):
            by_group[group_id].append(id_)

        def apply(item: tuple[str, list[str]]) -> int:
            changed = verb(*item)
            return changed if isinstance(changed, int) else len(changed)

        done, total = self.each(request, sorted(by_group.items()), apply)
        if done:
            self.message_user(request, f"{past} {plural(total, 'task')}.", messages.SUCCESS)

    # --- What is shown ---

    @admin.display(description="group")
    def in_group(self, task: Task) -> str:
        return link(self.admin_site, TaskGroup, task.group_id)

    @admin.display(description="state")
    def state_in_words(self, task: Task) -> str:
        return words(task)

    # Of a theme's own way to show JSON we know nothing: unfold's needs inline styles.
    @admin.display(description="input")
    def input_shown(self, task: Task) -> str:
        return format_html("<pre>{}</pre>", pretty(task.input))

    @admin.display(description="output")
    def output_shown(self, task: Task) -> str:
        return format_html("<pre>{}</pre>", pretty(task.output))

    @admin.display(description="errors")
    def errors_listed(self, task: Task) -> str:
        errors = ((str(error),) for error in task.errors)
        return format_html("<ol>{}</ol>", format_html_join("", "<li>{}</li>", errors))

    @admin.display(description="merged into")
    def follows(self, task: Task) -> str:
        return link(self.admin_site, Task, task.merged_into or "")

    @admin.display(description="created by")
    def made_by(self, task: Task) -> str:
        return link(self.admin_site, Task, task.created_by)

    @admin.display(description="parents")
    def parent_links(self, task: Task) -> str:
        edges = ParentEdge.objects.filter(child_id=task.pk).order_by("position")
        return self._links(edges.values_list("parent_id", "parent__name"), task.pk)

    @admin.display(description="children")
    def child_links(self, task: Task) -> str:
        edges = ParentEdge.objects.filter(parent_id=task.pk).order_by("child_id")
        return self._links(edges.values_list("child_id", "child__name"), task.pk)

    @admin.display(description="attempts")
    def all_attempts(self, task: Task) -> SafeString:
        url = reverse(f"{self.admin_site.name}:crew_attempt_changelist")
        return format_html('<a href="{}?task__id__exact={}">all that ended</a>', url, task.pk)

    def _links(self, rows: Any, pk: str) -> str:
        found = list(rows[: LINKS + 1])
        shown = [(link(self.admin_site, Task, id_, name),) for id_, name in found[:LINKS]]
        more = " and more" if len(found) > LINKS else ""
        return format_html("{}{}", format_html_join(", ", "{}", shown) or NONE, more)


def words(task: Any) -> str:
    """What a task is doing or waiting for; `task.state` is annotated (`STATE`)."""
    if task.merged_into:
        return f"merged into {task.merged_into}"
    if task.state == State.BLOCKED:
        return f"waiting for {plural(task.pending_parents, 'parent')}"
    if task.state == State.SCHEDULED and task.run_after <= timezone.now():
        return f"held with {task.workgroup}"
    if task.state == State.SCHEDULED:
        due = timezone.localtime(task.run_after)
        is_today = due.date() == timezone.localdate()
        return f"scheduled {due:%H:%M}" if is_today else f"scheduled {due:%Y-%m-%d %H:%M}"
    return State(task.state).label
