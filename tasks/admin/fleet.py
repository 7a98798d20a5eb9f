"""Workers, workgroups and schedulers in the admin."""

from functools import partial
from typing import Any

from django.contrib import admin, messages
from django.db.models import QuerySet
from django.http import HttpRequest

from .. import limits_and_holds
from ..audit import Kind
from ..models import SchedulerProcess, Worker, Workgroup
from .base import CrewAdmin, ReadOnlyAdmin, plural
from .forms import HoldForm, WorkerForm

HOLD_SECONDS = 60


@admin.register(Worker)
class WorkerAdmin(CrewAdmin):
    kind = Kind.WORKER
    change_list_template = "crew/admin/fleet_list.html"
    change_form_template = "crew/admin/fleet_one.html"
    history_at = "#crew-fleet"
    form = WorkerForm
    fields = ("name", "max_concurrency")
    list_display = ("name", "max_concurrency")
    search_fields = ("name__startswith",)
    ordering = ("name",)
    actions = ("try_now",)

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        return ("name",) if obj else ()

    def save_model(self, request: HttpRequest, obj: Any, form: Any, change: bool) -> None:
        limits_and_holds.limit_worker(obj.name, obj.max_concurrency)

    def delete_model(self, request: HttpRequest, obj: Any) -> None:
        limits_and_holds.forget_workers([obj.pk])

    def delete_queryset(self, request: HttpRequest, queryset: QuerySet[Worker]) -> None:
        limits_and_holds.forget_workers(list(queryset.values_list("pk", flat=True)))

    @admin.action(description="Try now, if it rests", permissions=["change"])
    def try_now(self, request: HttpRequest, queryset: QuerySet[Worker]) -> None:
        names = list(queryset.values_list("name", flat=True))
        done, _ = self.each(request, names, limits_and_holds.try_worker)
        if done:
            text = f"{plural(done, 'worker')} may be tried now."
            self.message_user(request, text, messages.SUCCESS)


@admin.register(Workgroup)
class WorkgroupAdmin(CrewAdmin):
    change_list_template = "crew/admin/fleet_list.html"
    change_form_template = "crew/admin/fleet_one.html"
    history_at = "#crew-fleet"
    list_display = ("name", "held_until", "held_by")
    search_fields = ("name__startswith",)
    ordering = ("name",)
    actions = ("hold", "open_now")

    def get_form(
        self, request: HttpRequest, obj: Any = None, change: bool = False, **kwargs: Any
    ) -> Any:
        if obj is None:
            kwargs["form"] = HoldForm
        return super().get_form(request, obj, change, **kwargs)

    def get_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        return ("name", "held_until", "held_by") if obj else ("name", "seconds")

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        return ("name", "held_until", "held_by") if obj else ()

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def save_model(self, request: HttpRequest, obj: Any, form: Any, change: bool) -> None:
        if not change:
            limits_and_holds.hold_workgroup(obj.name, seconds=form.cleaned_data["seconds"])

    @admin.action(description=f"Hold for {HOLD_SECONDS} s", permissions=["change"])
    def hold(self, request: HttpRequest, queryset: QuerySet[Workgroup]) -> None:
        self._each(request, queryset, HOLD_SECONDS, "Held")

    @admin.action(description="Open now", permissions=["change"])
    def open_now(self, request: HttpRequest, queryset: QuerySet[Workgroup]) -> None:
        self._each(request, queryset, 0, "Opened")

    def _each(
        self, request: HttpRequest, queryset: QuerySet[Workgroup], seconds: int, past: str
    ) -> None:
        names = list(queryset.values_list("name", flat=True))
        hold = partial(limits_and_holds.hold_workgroup, seconds=seconds)
        done, _ = self.each(request, names, hold)
        if done:
            self.message_user(request, f"{past} {plural(done, 'workgroup')}.", messages.SUCCESS)


@admin.register(SchedulerProcess)
class SchedulerProcessAdmin(ReadOnlyAdmin):
    change_list_template = "crew/admin/fleet_list.html"
    list_display = ("id", "host", "pid", "slots", "started_at", "beat_at")
    ordering = ("-beat_at",)
