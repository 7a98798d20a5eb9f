"""The audit history in the admin: what people did, for reading only."""

from typing import Any

from django.contrib import admin
from django.http import HttpRequest
from django.utils import timezone
from django.utils.html import format_html

from ..models import AuditEntry, TaskGroup
from .base import ReadOnlyAdmin, link, pretty


@admin.register(AuditEntry)
class AuditEntryAdmin(ReadOnlyAdmin):
    list_display = ("moment", "who", "verb", "kind", "target", "in_group", "count", "address")
    list_filter = ("verb", "kind", "at", "is_imported")
    search_fields = ("=target", "=group_id", "=who")
    search_help_text = "A whole id or name, or who did it"
    ordering = ("-id",)
    fields = (
        "moment",
        "who",
        "address",
        "verb",
        "kind",
        "target",
        "in_group",
        "count",
        "ids_shown",
        "asked",
        "is_imported",
        "seal_shown",
    )
    readonly_fields = ("moment", "in_group", "ids_shown", "asked", "seal_shown")

    @admin.display(description="at", ordering="id")
    def moment(self, entry: AuditEntry) -> str:
        text = f"{timezone.localtime(entry.at):%Y-%m-%d %H:%M:%S %Z}"
        return format_html('<time class="nowrap whitespace-nowrap">{}</time>', text)

    @admin.display(description="group")
    def in_group(self, entry: AuditEntry) -> str:
        return link(self.admin_site, TaskGroup, entry.group_id)

    @admin.display(description="ids")
    def ids_shown(self, entry: AuditEntry) -> str:
        return ", ".join(entry.ids.split())

    @admin.display(description="seal")
    def seal_shown(self, entry: AuditEntry) -> str:
        return "not sealed yet" if entry.seal is None else str(entry.seal)

    @admin.display(description="asked")
    def asked(self, entry: AuditEntry) -> str:
        return pretty(entry.detail)

    def get_queryset(self, request: HttpRequest) -> Any:
        return super().get_queryset(request).defer("ids")
