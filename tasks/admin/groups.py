"""Task groups in the admin."""

from typing import Any

from django.contrib import admin, messages
from django.contrib.admin.helpers import ACTION_CHECKBOX_NAME
from django.contrib.admin.utils import quote
from django.core.paginator import Paginator
from django.db.models import Count, F, Q, QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils.functional import cached_property
from django.utils.html import format_html
from django.utils.safestring import SafeString

from .. import control, create
from ..audit import Kind
from ..errors import ConflictError
from ..insight.find import Holds
from ..models import Task, TaskGroup
from ..store.states import progress
from ..verbs import slices
from .base import CrewAdmin, plural
from .forms import GroupForm, NewGroupForm

LARGE = 10_000  # tasks of a group that no form deletes


class NewestPages(Paginator):  # type: ignore[type-arg]
    """Pages of the newest rows: to count all of a big table takes longer than to show a page."""

    most = 10_000

    @cached_property
    def count(self) -> int:
        rows: Any = self.object_list
        return int(rows[: self.most].count())

    @property
    def is_capped(self) -> bool:
        return self.count == self.most


@admin.register(TaskGroup)
class TaskGroupAdmin(CrewAdmin):
    kind, audited = Kind.GROUP, ("create",)
    change_form_template = "crew/admin/group.html"
    history_at = "#history"
    change_list_template = "crew/admin/groups.html"
    paginator = NewestPages
    list_display = ("title", "now", "id_to_copy", "created_at")
    list_display_links = ("title",)
    list_filter = ("is_paused", "created_at")
    search_fields = ("id", "name")
    search_help_text = "Part of the name, or the whole id."
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

    # --- The list ---

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Any], search_term: str
    ) -> tuple[QuerySet[Any], bool]:
        words = search_term.strip()
        if words:
            queryset = queryset.filter(Q(pk=words) | Q(Holds(F("name"), words)))
        return queryset, False

    @admin.display(description="name", ordering="name")
    def title(self, group: TaskGroup) -> str:
        return str(group)

    @admin.display(description="id", ordering="id")
    def id_to_copy(self, group: TaskGroup) -> SafeString:
        """`groups.js` puts a button to copy it beside it."""
        return format_html('<span data-copy="{0}">{0}</span>', group.pk)

    @admin.display(description="progress")
    def now(self, group: TaskGroup) -> SafeString:
        """Kept up to date by `groups.js`; the list itself counts no tasks."""
        words = plural(group.task_count, "task")
        return format_html(
            '<div class="crew-page crew-now" data-group="{}">{}</div>', group.pk, words
        )

    # --- The form ---

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
        with slices.alone(obj.pk):
            form.refuse_stale()
            touched = form.touched()
            if "name" in touched:
                control.rename_group(obj.pk, name=obj.name)
            if "is_paused" in touched:
                (control.pause_group if obj.is_paused else control.resume_group)(obj.pk)

    def response_post_save_change(self, request: HttpRequest, obj: Any) -> HttpResponseRedirect:
        """Back to the group's own page."""
        return HttpResponseRedirect(self._page_of(obj))

    def response_post_save_add(self, request: HttpRequest, obj: Any) -> HttpResponseRedirect:
        return HttpResponseRedirect(self._page_of(obj))

    def _page_of(self, group: TaskGroup) -> str:
        return reverse(f"{self.admin_site.name}:crew_taskgroup_change", args=[quote(group.pk)])

    # --- Deleting ---

    def get_deleted_objects(self, objs: Any, request: HttpRequest) -> Any:
        """Django would list every task; one line for each group says it."""
        listed = [f"{group}: {plural(group.task_count, 'task')}" for group in objs]
        counts = {"task groups": len(listed), "tasks": sum(group.task_count for group in objs)}
        return listed, counts, set(), []

    def delete_model(self, request: HttpRequest, obj: Any) -> None:
        _delete(obj.pk)

    def delete_queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> None:
        self.each(request, queryset.values_list("pk", flat=True), _delete)

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
        answers = Task.objects.filter(group__in=groups, is_seed=False).exclude(created_by="")
        made = dict(answers.order_by().values_list("group_id").annotate(n=Count("*")))
        listed = [
            {
                "group": group,
                "stay": seeds.get(group.pk, group.task_count),
                "go": group.task_count - seeds[group.pk] if group.pk in seeds else 0,
                "has_seeds": group.pk in seeds,
                "made": made.get(group.pk, 0),
            }
            for group in groups
        ]
        return {
            **self.admin_site.each_context(request),
            "title": "Reset task groups",
            "opts": self.opts,
            "media": self.media,
            "listed": listed,
            "checkbox": ACTION_CHECKBOX_NAME,
        }

    def _each_group(
        self, request: HttpRequest, queryset: QuerySet[TaskGroup], verb: Any, past: str
    ) -> None:
        done, total = self.each(request, queryset.values_list("pk", flat=True), verb)
        if done:
            text = f"{past} {plural(done, 'group')}: {plural(total, 'task')} changed."
            self.message_user(request, text, messages.SUCCESS)


def _delete(group_id: str) -> int | None:
    """A form must be answered in time: a large group is deleted by its page, part by part."""
    group = TaskGroup.objects.get(pk=group_id)
    if group.task_count > LARGE:
        raise ConflictError(
            f"{group} has {plural(group.task_count, 'task')}: press Delete on its own page, which"
            " deletes them part by part and shows how far it is"
        )
    return control.delete_group(group_id)
