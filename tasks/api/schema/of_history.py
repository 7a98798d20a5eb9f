"""The audit history, described."""

from collections.abc import Mapping
from typing import Any

from rest_framework import serializers as s
from rest_framework.views import APIView

from ...models import AuditEntry
from .. import history
from .shapes import Counted
from .words import OUR_LIST, OURS, answers, operation


class Entry(s.Serializer):  # type: ignore[misc]
    """One act of somebody."""

    at = s.DateTimeField()
    who = s.CharField(help_text="A user, a token or a command, as it was called then.")
    verb = s.CharField(help_text="pause, resume, retry, reset, cancel, edit, delete …")
    kind = s.ChoiceField(choices=AuditEntry.Kind.values, help_text="What it was done to.")
    id = s.CharField(allow_blank=True, help_text="Empty when it was done to several tasks.")
    ids = s.ListField(child=s.CharField(), help_text="Of several tasks, if they are not many.")
    count = s.IntegerField(help_text="How many tasks it was done to.")
    detail = s.DictField(help_text="What was asked, such as `remainingAttempts`; never a payload.")
    isImported = s.BooleanField(help_text="It came in with an import: the word of its file.")
    seal = s.IntegerField(
        allow_null=True, help_text="The seal that it is under; null for a minute or so."
    )


class History(Counted):
    entries = Entry(many=True)
    isCut = s.BooleanField(required=False, help_text="Present where the page ends too early.")


def _history(id_: str, summary: str) -> dict[str, Any]:
    responses = answers(History, 400, 404, **OURS)
    return {"get": operation(id_, summary, responses, tags=["insight"], parameters=OUR_LIST)}


DESCRIBED: Mapping[type[APIView], Mapping[str, Any]] = {
    history.GroupHistory: _history("group_history", "What people did to a group"),
    history.TaskHistory: _history("task_history", "What people did to a task"),
}
