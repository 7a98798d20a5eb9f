"""Paths that are no route of ours (contract 1.1, "Errors"), and the one that a socket opens."""

from django.http import HttpResponse
from rest_framework.request import Request

from .answers import text
from .base import CrewView


class Unknown(CrewView):
    """404 for a GET, 405 for the rest, as the old Crew answered."""

    needs = {"GET": ""}
    is_open = True
    schema = None

    def get(self, request: Request, *args: object, **kwargs: object) -> HttpResponse:
        return text("404 page not found", 404)


class NotWebsocket(Unknown):
    """The path of a live stream, asked for by an ordinary request."""

    def get(self, request: Request, *args: object, **kwargs: object) -> HttpResponse:
        return text("not websocket protocol", 400)


class Healthz(CrewView):
    """Says that this process serves requests; touches no database."""

    needs = {"GET": ""}
    is_open = True

    def get(self, request: Request) -> HttpResponse:
        return text("Healthy!")
