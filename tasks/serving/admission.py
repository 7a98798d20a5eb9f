"""Who may send a long body: judged by the head of a request, before its body is taken.

A few KiB are taken of anyone (CREW_MAX_STRANGER_BYTES). For more the path must lead somewhere, and
its view must know the caller: a route of the API asks its own authentication and scope, another
view takes it of whoever is logged in. One that is exempt from CSRF tells its callers by itself.
"""

from collections.abc import MutableMapping
from dataclasses import dataclass
from functools import cache
from io import BytesIO
from typing import Any

from asgiref.sync import ThreadSensitiveContext, sync_to_async
from django.core.handlers.asgi import ASGIRequest, get_script_prefix
from django.core.handlers.base import BaseHandler
from django.db import connections
from django.http import HttpRequest, HttpResponse, HttpResponseBase
from django.template.response import SimpleTemplateResponse
from django.urls import set_script_prefix

from ..conf import conf


@dataclass(frozen=True, slots=True)
class Verdict:
    """The most bytes that the body may have; or the answer, for whom it is not taken at all."""

    limit: int
    refusal: Any = None

    @property
    def headers(self) -> list[tuple[bytes, bytes]]:
        """Of the refusal, as ASGI has them."""
        return [(name.lower().encode(), value.encode()) for name, value in self.refusal.items()]


async def judge(scope: MutableMapping[str, Any]) -> Verdict:
    """Ask all of Django's middleware and the view, in a thread of its own."""
    async with ThreadSensitiveContext():
        return await sync_to_async(_judge, thread_sensitive=True)(scope)


class _Judge(BaseHandler):
    """Django's chain, where the view is asked whether it would take the body."""

    def _get_response(self, request: HttpRequest) -> HttpResponseBase:
        match = self.resolve_request(request)
        view_class: Any = getattr(match.func, "view_class", None) or getattr(
            match.func, "cls", None
        )
        if hasattr(view_class, "admit"):
            view: Any = view_class(**getattr(match.func, "view_initkwargs", {}))
            answer: HttpResponse = view.admit(request, *match.args, **match.kwargs)
            limit = view.most_bytes(request)
        else:
            answer, limit = HttpResponse(), _limit_of_others(request, match.func)
        if answer.status_code < 400:
            request.META["crew.limit"] = limit
        if isinstance(answer, SimpleTemplateResponse):
            answer.render()
        return answer


@cache
def _chain() -> _Judge:
    chain = _Judge()
    chain.load_middleware()
    return chain


def _judge(scope: MutableMapping[str, Any]) -> Verdict:
    try:
        set_script_prefix(get_script_prefix(scope))
        request = ASGIRequest({**scope, "type": "http"}, BytesIO())
        answer = _chain().get_response(request)
    except UnicodeDecodeError:
        return Verdict(0, HttpResponse("bad request\n", "text/plain; charset=UTF-8", status=400))
    finally:
        connections.close_all()
    limit = request.META.get("crew.limit")
    return Verdict(0, answer) if limit is None else Verdict(limit)


def _limit_of_others(request: HttpRequest, view: Any) -> int:
    user = getattr(request, "user", None)
    if getattr(view, "csrf_exempt", False) or (user is not None and user.is_authenticated):
        return int(conf.CREW_MAX_BODY_BYTES)
    return int(conf.CREW_MAX_STRANGER_BYTES)
