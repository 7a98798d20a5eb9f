"""What people do in the admin is recorded as theirs, and so is what they are refused."""

from collections.abc import Callable, Collection
from functools import wraps
from typing import TYPE_CHECKING, Any

from django.contrib import admin
from django.core.exceptions import PermissionDenied
from django.db import transaction
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponseBase

from .. import audit
from ..access import callers
from ..access.http import client_address

if TYPE_CHECKING:
    Base = admin.ModelAdmin[Any]
else:
    Base = object


class Watched(Base):
    """An admin of which every page knows who acts. `kind` says what its rows are."""

    kind = ""
    # What of Django's own doing no verb records: some of "create", "edit", "delete".
    audited: Collection[str] = ()

    @property
    def urls(self) -> list[Any]:
        """All pages, those of subclasses too."""
        patterns = self.get_urls()
        for pattern in patterns:
            pattern.callback = watched(pattern.callback)
        return patterns

    def changelist_view(self, request: HttpRequest, *args: Any, **kwargs: Any) -> Any:
        """An action that is not the person's to do is refused; Django would pass over it."""
        asked = {name for name in request.POST.getlist("action") if name}
        if asked - self.get_actions(request).keys():
            raise PermissionDenied("not an action of theirs")
        return super().changelist_view(request, *args, **kwargs)

    def log_addition(self, request: HttpRequest, obj: Any, message: Any) -> Any:
        self._record("create", obj)
        return super().log_addition(request, obj, message)

    def log_change(self, request: HttpRequest, obj: Any, message: Any) -> Any:
        self._record("edit", obj, fields=_changed(message))
        return super().log_change(request, obj, message)

    def delete_model(self, request: HttpRequest, obj: Any) -> None:
        with transaction.atomic():
            self._record("delete", obj)
            super().delete_model(request, obj)

    def delete_queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> None:
        with transaction.atomic():
            for obj in queryset:
                self._record("delete", obj)
            super().delete_queryset(request, queryset)

    def _record(self, verb: str, obj: Any, **detail: Any) -> None:
        if verb in self.audited:
            is_named = self.kind in (audit.Kind.TOKEN, audit.Kind.USER)
            group_id = getattr(obj, "group_id", obj.pk if self.kind == audit.Kind.GROUP else "")
            target = str(obj if is_named else obj.pk)
            audit.record(verb, self.kind, target, group_id=group_id, **detail)


def watched(view: Callable[..., HttpResponseBase]) -> Callable[..., HttpResponseBase]:
    """The view, whose visitor is the actor of all that it does."""

    @wraps(view)
    def watching(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        who = callers.of_user(request.user).who
        with audit.by(who, user=request.user, address=client_address(request)):
            try:
                return view(request, *args, **kwargs)
            except PermissionDenied as error:
                audit.denied(request.method or "", request.path, str(error))
                raise

    return watching


def _changed(message: Any) -> list[str]:
    """The names of the fields in Django's words for a change."""
    parts = message if isinstance(message, list) else []
    return [name for part in parts for name in part.get("changed", {}).get("fields", ())]
