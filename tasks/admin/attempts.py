"""Attempts in the admin: what was done, for reading only."""

from typing import Any, ClassVar

from django.contrib import admin
from django.db.models import F
from django.http import HttpRequest
from django.utils.html import format_html
from django.utils.safestring import SafeString

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
        rows = super().get_queryset(request).defer("request", "answer")
        return rows.filter(number__gt=F("task__attempt") - ATTEMPTS)

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
    linked_by = ("task__id__exact",)
    ordering = ("-id",)

    class Media:
        css: ClassVar = {"all": ["crew/crew.css"]}

    def get_queryset(self, request: HttpRequest) -> Any:
        return super().get_queryset(request).defer("request", "answer")

    def get_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        hidden = ("id", "task", "request", "answer")
        names = (field.name for field in Attempt._meta.fields if field.name not in hidden)
        return ("task_link", *names, "duration", "the_request", "the_answer")

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        return ("task_link", "duration", "the_request", "the_answer")

    @admin.display(description="task")
    def task_link(self, attempt: Attempt) -> str:
        return link(self.admin_site, Task, attempt.task_id)

    @admin.display(description="duration")
    def duration(self, attempt: Attempt) -> str:
        return duration(attempt)

    @admin.display(description="request")
    def the_request(self, attempt: Attempt) -> SafeString | None:
        return as_sent(attempt.request)

    @admin.display(description="answer")
    def the_answer(self, attempt: Attempt) -> SafeString | None:
        return as_sent(attempt.answer)


def as_sent(text: str | None) -> SafeString | None:
    if text is None:
        return None
    return format_html('<pre class="crew-json" tabindex="0">{}</pre>', text)


def duration(attempt: Attempt) -> str:
    return f"{(attempt.finished_at - attempt.started_at).total_seconds():.2f} s"
