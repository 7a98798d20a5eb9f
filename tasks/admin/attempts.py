"""Attempts in the admin: what was done, for reading only."""

from typing import Any

from django.contrib import admin
from django.db.models import F
from django.http import HttpRequest

from ..models import Attempt, Task
from .base import ReadOnlyAdmin, TabularInline, link

ATTEMPTS = 50  # the last attempts shown on a task's page


class AttemptInline(TabularInline):
    model = Attempt
    fields = readonly_fields = ("number", "outcome", "status", "duration", "error")
    ordering = ("-number",)
    extra = 0
    can_delete = False
    verbose_name_plural = f"the last {ATTEMPTS} attempts"

    def get_queryset(self, request: HttpRequest) -> Any:
        return super().get_queryset(request).filter(number__gt=F("task__attempt") - ATTEMPTS)

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    @admin.display(description="duration")
    def duration(self, attempt: Attempt) -> str:
        return duration(attempt)


@admin.register(Attempt)
class AttemptAdmin(ReadOnlyAdmin):
    list_display = ("task_link", "number", "outcome", "status", "worker", "duration", "started_at")
    list_display_links = ("number",)
    list_filter = ("outcome", "started_at")
    search_fields = ("task__id__exact",)
    ordering = ("-id",)

    def lookup_allowed(self, lookup: str, value: Any, request: Any = None) -> bool:
        return lookup == "task__id__exact" or super().lookup_allowed(lookup, value, request)

    def get_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        names = (field.name for field in Attempt._meta.fields if field.name not in ("id", "task"))
        return ("task_link", *names, "duration")

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        return ("task_link", "duration")

    @admin.display(description="task")
    def task_link(self, attempt: Attempt) -> str:
        return link(self.admin_site, Task, attempt.task_id)

    @admin.display(description="duration")
    def duration(self, attempt: Attempt) -> str:
        return duration(attempt)


def duration(attempt: Attempt) -> str:
    return f"{(attempt.finished_at - attempt.started_at).total_seconds():.2f} s"
