"""What all admins share: the base classes, refusals as messages, links and pretty JSON."""

import json
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from django.conf import settings
from django.contrib import admin, messages
from django.contrib.admin.utils import quote
from django.db.models import Model
from django.http import HttpRequest, HttpResponseRedirect
from django.urls import reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString

from .dress import dress
from .list_urls import ListedLookups
from .refused import REFUSALS, RefusalsShown, in_words
from .watched import Watched

if TYPE_CHECKING:
    ModelAdmin = admin.ModelAdmin[Any]
    TabularInline = admin.TabularInline[Any, Any]
elif "unfold" in settings.INSTALLED_APPS:
    from unfold.admin import ModelAdmin, TabularInline
else:
    from django.contrib.admin import ModelAdmin, TabularInline

__all__ = ["CrewAdmin", "ModelAdmin", "ReadOnlyAdmin", "TabularInline", "link", "pretty"]

NONE = "-"


class CrewAdmin(RefusalsShown, ListedLookups, Watched, ModelAdmin):
    """A form that shows what the verbs refuse, and lists that never count a whole table twice."""

    show_full_result_count = False
    show_facets = admin.ShowFacets.NEVER  # a count of the whole table for each choice
    list_per_page = 50
    list_max_show_all = 200
    list_fullwidth = True  # of unfold
    # Where its own page tells what people did, by whatever door; Django's list knows forms alone.
    history_at = ""

    def get_form(
        self, request: HttpRequest, obj: Any = None, change: bool = False, **kwargs: Any
    ) -> Any:
        form: Any = super().get_form(request, obj, change, **kwargs)
        dress(form)
        return form

    def history_view(self, request: HttpRequest, object_id: str, *args: Any, **kwargs: Any) -> Any:
        if not self.history_at or not self.has_view_permission(request):
            return super().history_view(request, object_id, *args, **kwargs)
        name = f"{self.admin_site.name}:{self.opts.app_label}_{self.opts.model_name}_change"
        return HttpResponseRedirect(reverse(name, args=[object_id]) + self.history_at)

    def each(
        self, request: HttpRequest, items: Iterable[Any], verb: Callable[[Any], int | None]
    ) -> tuple[int, int]:
        """Apply a verb to each; return how many it was done to and what they add up to.

        What is refused is shown, and keeps nothing else from being done.
        """
        done = total = 0
        for item in items:
            try:
                total += verb(item) or 0
                done += 1
            except REFUSALS as error:
                self.message_user(request, in_words(error), messages.ERROR)
        return done, total


class ReadOnlyAdmin(CrewAdmin):
    def has_add_permission(self, request: HttpRequest, *args: Any) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False


def link(site: admin.AdminSite, model: type[Model], pk: str, text: str = "") -> SafeString | str:
    """A link to the page of a row, which need not exist any more."""
    if not pk:
        return NONE
    name = f"{site.name}:{model._meta.app_label}_{model._meta.model_name}_change"
    return format_html('<a href="{}">{}</a>', reverse(name, args=[quote(pk)]), text or pk)


def pretty(value: Any) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False)


def plural(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"
