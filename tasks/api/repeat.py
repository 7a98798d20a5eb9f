"""Calls that may be repeated: Idempotency-Key for creates, ETag for reads."""

import hashlib
import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from django.db import IntegrityError, transaction
from django.db.models.functions import Now
from django.http import HttpResponse, HttpResponseBase
from django.utils.cache import get_conditional_response
from rest_framework.request import Request

from ..errors import InvalidInputError
from ..models import RepeatableCall
from ..rules.jsonio import dump
from ..upkeep.expired_rows import CALLS_KEPT
from . import query
from .answers import json_answer, json_text

if TYPE_CHECKING:
    from .base import CrewView

_KEY = re.compile(r"[\x21-\x7e]{1,200}")


class KeyReusedError(InvalidInputError):
    """The key belongs to another call (422)."""

    status = 422


def once(view: "CrewView", request: Request, work: Callable[[], Any]) -> HttpResponse:
    """Do `work` and answer with what it gives; with an Idempotency-Key at most once in a day.

    The key is stored in the transaction of the work. Of calls at once, one works and the others
    wait for it; all get the same answer. The body has been read.
    """
    key = request.META.get("HTTP_IDEMPOTENCY_KEY")
    if key is None or query.sure(request, "dryRun"):
        return json_answer(work())
    if not _KEY.fullmatch(key):
        raise InvalidInputError("Idempotency-Key must be 1 to 200 visible ASCII characters")
    body = view.sent.digest if view.sent else ""
    asked = f"{request.method} {request.get_full_path()} {body}"
    fingerprint = hashlib.sha256(asked.encode()).hexdigest()
    mine = RepeatableCall.objects.filter(caller=view.access.caller[:80], key=key)
    try:
        with transaction.atomic():
            mine.filter(at__lt=Now() - CALLS_KEPT).delete()
            call = RepeatableCall.objects.create(
                caller=view.access.caller[:80], key=key, fingerprint=fingerprint
            )
            # As text: the databases do not keep the order of an object's keys.
            done = dump(work())
            RepeatableCall.objects.filter(pk=call.pk).update(status=200, body=done)
    except IntegrityError:
        before = mine.first()
        if before is None:
            raise
        return _replayed(before, fingerprint)
    return json_text(done)


def conditional(request: Request, answer: HttpResponse) -> HttpResponseBase:
    """The answer with its ETag, or 304 when the client has it already (RFC 9110, 13.1.2)."""
    etag = f'"{hashlib.sha256(answer.content).hexdigest()[:32]}"'
    answer["ETag"] = etag
    answer["Cache-Control"] = "private, no-cache"
    return get_conditional_response(request._request, etag=etag, response=answer) or answer


def _replayed(before: RepeatableCall, fingerprint: str) -> HttpResponse:
    if before.fingerprint != fingerprint:
        raise KeyReusedError("the Idempotency-Key was used for another call")
    answer = json_text(str(before.body))
    answer["Idempotency-Replayed"] = "true"
    return answer
