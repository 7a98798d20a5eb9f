"""The API's description, for programs and for people: OpenAPI, and Swagger UI from this site."""

from collections.abc import Callable, Sequence

from django.http import HttpResponse
from django.shortcuts import render
from django.urls import URLPattern
from rest_framework.request import Request

from .answers import json_answer
from .base import CrewView


class OpenAPI(CrewView):
    """The OpenAPI 3.1 document. It tells nothing that needs a token."""

    is_open = True
    needs = {"GET": ""}
    schema = None
    routes: Callable[[], Sequence[URLPattern]] = staticmethod(lambda: ())

    def get(self, request: Request) -> HttpResponse:
        from .schema import describe  # not loaded by a process that nobody asks

        prefix = request._request.path.removesuffix("api/v1/openapi.json")
        return json_answer(describe(self.routes(), prefix), headers={"Cache-Control": "no-cache"})


class SwaggerUI(CrewView):
    """The same to click on. All files come from this site."""

    is_open = True
    needs = {"GET": ""}
    schema = None

    def get(self, request: Request) -> HttpResponse:
        return render(request._request, "crew/swagger.html")
