"""Paths that are no route of ours (contract 1.1, "Errors"), and the one that a socket opens."""

from django.db import Error, connection
from django.http import HttpResponse
from rest_framework.request import Request

from ..sql import patience
from .answers import text
from .base import CrewView

READY_WITHIN = 3.0  # seconds for the database


class Unknown(CrewView):
    """404 for a GET, 405 for the rest, as the old Crew answered."""

    needs = {"GET": ""}
    is_open = True
    schema = None

    def get(self, request: Request, *args: object, **kwargs: object) -> HttpResponse:
        return text("404 page not found", 404)

    def methods_listed(self) -> HttpResponse:
        return text("404 page not found", 404)


class NotWebsocket(CrewView):
    """The path of a live stream, asked for by an ordinary request."""

    needs = {"GET": ""}
    is_open = True
    schema = None

    def get(self, request: Request, *args: object, **kwargs: object) -> HttpResponse:
        return text("not websocket protocol", 400)


class Healthz(CrewView):
    """Says that this process serves requests; touches no database."""

    needs = {"GET": ""}
    is_open = True

    def get(self, request: Request) -> HttpResponse:
        return text("Healthy!")


class Ready(CrewView):
    """Says whether requests that need the database can be served: 200, or 503 while it is away."""

    needs = {"GET": ""}
    is_open = True

    def get(self, request: Request) -> HttpResponse:
        try:
            with patience.within(READY_WITHIN), connection.cursor() as cursor:
                cursor.execute("SELECT 1")
        except Error:
            return text("the database is away", 503)
        return text("Ready!")
