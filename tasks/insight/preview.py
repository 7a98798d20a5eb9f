"""The call that a worker would get for a task now: read as claims read, built as deliverers build.

Nothing is sent. What it shows of secrets is that they are there.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from django.db.models import TextField
from django.db.models.functions import Cast

from ..delivery.calls import CallRules, Delivery
from ..models import Task
from ..rules.payload import payload
from ..rules.transcript import shown
from ..store.payloads import of_task

SHOWN = 200_000  # characters of a body


@dataclass(frozen=True, slots=True)
class CallPreview:
    """`refused` says why the call would not go out; `body` is its text, cut if `is_cut`."""

    worker: str
    url: str
    refused: str
    headers: Mapping[str, str]
    body: str
    size: int
    is_cut: bool


def call_of(task_id: str) -> CallPreview | None:
    """The call as it would be sent now; None if there is no such task."""
    rows = Task.objects.filter(pk=task_id).annotate(input_json=Cast("input", TextField()))
    row = rows.values_list("worker", "attempt", "input_json").first()
    if row is None:
        return None
    worker, attempt, input_json = row
    brought = of_task(task_id, input_json)
    body = payload(task_id, worker, brought.input_json, brought.parents)
    url, headers, refused = _outside(Delivery(task_id, attempt + 1, worker, body))
    text = body.decode()
    return CallPreview(
        worker,
        url,
        refused or brought.too_large,
        headers,
        text[:SHOWN],
        len(body),
        len(text) > SHOWN,
    )


def _outside(delivery: Delivery) -> tuple[str, dict[str, str], str]:
    """The URL, the headers, and why it would not go out."""
    if not delivery.worker:
        return "", {}, "it has no worker"
    try:
        rules = CallRules.from_conf()
        headers = dict(shown(rules.headers(delivery).items()))
        return rules.url(delivery.worker), headers, ""
    except ValueError as error:
        return "", {}, str(error)
