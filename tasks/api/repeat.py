"""Calls that depend on earlier ones: Idempotency-Key for creates, ETag for reads and changes."""

import hashlib
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from django.db import IntegrityError, transaction
from django.db.models.functions import Now
from django.http import HttpResponse, HttpResponseBase
from django.utils.cache import get_conditional_response
from django.utils.http import parse_etags
from rest_framework.request import Request

from ..errors import ConflictError, InvalidInputError
from ..models import RepeatableCall
from ..rules.jsonio import dump
from ..store import edges
from ..upkeep.expired_rows import CALLS_KEPT
from ..verbs import slices
from . import query
from .answers import json_answer, json_text

if TYPE_CHECKING:
    from .base import CrewView

_KEY = re.compile(r"[\x21-\x7e]{1,200}")


class KeyReusedError(InvalidInputError):
    """The key belongs to another call (422)."""

    status = 422


class NotTheSameError(ConflictError):
    """It is not what it was when the caller read it (412)."""

    status = 412


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
    etag = _etag(answer)
    answer["ETag"] = etag
    answer["Cache-Control"] = "private, no-cache"
    return get_conditional_response(request._request, etag=etag, response=answer) or answer


@contextmanager
def guarded(
    request: Request, gid: str, shown: Callable[[], HttpResponse], *, tid: str = "", whole: bool
) -> Iterator[None]:
    """What is done in here is done to what `If-Match` names, or NotTheSameError is raised.

    Nobody changes the group, or its task, between the look and the change. A verb that works in
    slices, which is not `whole`, begins right after the look: it must not hold the group for long.
    """
    tags = request.META.get(query.IF_MATCH)
    if tags is None:
        yield
        return
    with slices.alone(gid):
        edges.lock(gid, [tid] if tid else [])
        # Weak tags never match (RFC 9110, 13.1.1).
        if not {"*", _etag(shown())} & set(parse_etags(tags)):
            raise NotTheSameError("it was changed since it was read; read it again")
        if whole:
            yield
    if not whole:
        yield


def _etag(answer: HttpResponse) -> str:
    return f'"{hashlib.sha256(answer.content).hexdigest()[:32]}"'


def _replayed(before: RepeatableCall, fingerprint: str) -> HttpResponse:
    if before.fingerprint != fingerprint:
        raise KeyReusedError("the Idempotency-Key was used for another call")
    answer = json_text(str(before.body))
    answer["Idempotency-Replayed"] = "true"
    return answer
