"""The API's description, for programs and for people: OpenAPI, and Swagger UI from this site."""

from collections.abc import Callable, Sequence
from functools import lru_cache

from django.http import HttpResponse, HttpResponseBase
from django.shortcuts import render
from django.urls import URLPattern
from rest_framework.request import Request

from ..rules.jsonio import dump
from .answers import json_text
from .base import CrewView
from .repeat import conditional


class OpenAPI(CrewView):
    """The OpenAPI 3.1 document. It tells nothing that needs a token."""

    is_open = True
    needs = {"GET": ""}
    schema = None
    routes: Callable[[], Sequence[URLPattern]] = staticmethod(lambda: ())

    def get(self, request: Request) -> HttpResponseBase:
        prefix = request._request.path.removesuffix("api/v1/openapi.json")
        answer = json_text(_described(self.routes, prefix))
        answer["Cache-Control"] = "no-cache"
        return conditional(request, answer)


@lru_cache(4)  # as often as the app is mounted; a stranger may ask a thousand times
def _described(routes: Callable[[], Sequence[URLPattern]], prefix: str) -> str:
    from .schema import describe  # not loaded by a process that nobody asks

    return dump(describe(routes(), prefix))


class SwaggerUI(CrewView):
    """The same to click on. All files come from this site."""

    is_open = True
    needs = {"GET": ""}
    schema = None

    def get(self, request: Request) -> HttpResponse:
        return render(request._request, "crew/swagger.html")
