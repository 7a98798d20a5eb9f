"""Task groups in the admin."""

from typing import Any

from django.contrib import admin, messages
from django.contrib.admin.helpers import ACTION_CHECKBOX_NAME
from django.db.models import Count, QuerySet
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString

from .. import control, create
from ..models import Task, TaskGroup
from ..progress import progress
from .base import CrewAdmin, plural
from .forms import GroupForm, NewGroupForm


@admin.register(TaskGroup)
class TaskGroupAdmin(CrewAdmin):
    change_form_template = "crew/admin/group.html"
    list_display = ("id", "name", "is_paused", "task_count", "created_at")
    list_filter = ("is_paused", "created_at")
    search_fields = ("=id", "name__startswith")
    ordering = ("-created_at", "-id")
    actions = ("pause", "resume", "retry", "reset")

    def get_form(
        self, request: HttpRequest, obj: Any = None, change: bool = False, **kwargs: Any
    ) -> Any:
        kwargs["form"] = GroupForm if obj else NewGroupForm
        return super().get_form(request, obj, change, **kwargs)

    def get_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        if obj is None:
            return ("new_id", "name", "is_paused")
        return ("id", "name", "is_paused", "progress", "tasks", "created_at")

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        return ("id", "progress", "tasks", "created_at") if obj else ()

    @admin.display(description="progress")
    def progress(self, group: TaskGroup) -> str:
        return str(progress(group.pk))

    @admin.display(description="tasks")
    def tasks(self, group: TaskGroup) -> SafeString:
        url = reverse(f"{self.admin_site.name}:crew_task_changelist")
        shown = plural(group.task_count, "task")
        return format_html('<a href="{}?group__id__exact={}">{}</a>', url, group.pk, shown)

    def save_model(self, request: HttpRequest, obj: Any, form: Any, change: bool) -> None:
        if not change:
            given = form.cleaned_data
            made = create.create_group(
                id=given["new_id"], name=given["name"], is_paused=given["is_paused"]
            )
            obj.pk = made.pk
            return
        if "name" in form.changed_data:
            control.rename_group(obj.pk, name=obj.name)
        if "is_paused" in form.changed_data:
            (control.pause_group if obj.is_paused else control.resume_group)(obj.pk)

    # --- Deleting ---

    def get_deleted_objects(self, objs: Any, request: HttpRequest) -> Any:
        """Django would list every task; one line for each group says it."""
        told = [f"{group}: {plural(group.task_count, 'task')}" for group in objs]
        counts = {"task groups": len(told), "tasks": sum(group.task_count for group in objs)}
        return told, counts, set(), []

    def delete_model(self, request: HttpRequest, obj: Any) -> None:
        control.delete_group(obj.pk)

    def delete_queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> None:
        self.each(request, queryset.values_list("pk", flat=True), control.delete_group)

    # --- Actions ---

    @admin.action(description="Pause selected groups", permissions=["change"])
    def pause(self, request: HttpRequest, queryset: QuerySet[TaskGroup]) -> None:
        self._each_group(request, queryset, control.pause_group, "Paused")

    @admin.action(description="Resume selected groups", permissions=["change"])
    def resume(self, request: HttpRequest, queryset: QuerySet[TaskGroup]) -> None:
        self._each_group(request, queryset, control.resume_group, "Resumed")

    @admin.action(description="Retry selected groups", permissions=["change"])
    def retry(self, request: HttpRequest, queryset: QuerySet[TaskGroup]) -> None:
        self._each_group(request, queryset, control.retry_group, "Gave attempts back in")

    @admin.action(description="Reset selected groups…", permissions=["change"])
    def reset(self, request: HttpRequest, queryset: QuerySet[TaskGroup]) -> HttpResponse | None:
        if request.POST.get("confirmed"):
            done, gone = self.each(
                request, queryset.values_list("pk", flat=True), control.reset_group
            )
            self.message_user(
                request,
                f"Reset {plural(done, 'group')}; {plural(gone, 'task')} deleted.",
                messages.SUCCESS,
            )
            return None
        return TemplateResponse(
            request, "crew/admin/reset_groups.html", self._reset_context(request, queryset)
        )

    def _reset_context(self, request: HttpRequest, queryset: QuerySet[TaskGroup]) -> dict[str, Any]:
        groups = list(queryset)
        rows = (
            Task.objects.filter(group__in=groups, is_seed=True)
            .order_by()
            .values_list("group_id")
            .annotate(n=Count("*"))
        )
        seeds = dict(rows)
        told = [
            {
                "group": group,
                "stay": seeds.get(group.pk, group.task_count),
                "go": group.task_count - seeds[group.pk] if group.pk in seeds else 0,
                "has_seeds": group.pk in seeds,
            }
            for group in groups
        ]
        return {
            **self.admin_site.each_context(request),
            "title": "Reset task groups",
            "opts": self.opts,
            "media": self.media,
            "told": told,
            "checkbox": ACTION_CHECKBOX_NAME,
        }

    def _each_group(
        self, request: HttpRequest, queryset: QuerySet[TaskGroup], verb: Any, past: str
    ) -> None:
        done, total = self.each(request, queryset.values_list("pk", flat=True), verb)
        if done:
            text = f"{past} {plural(done, 'group')}: {plural(total, 'task')} changed."
            self.message_user(request, text, messages.SUCCESS)
