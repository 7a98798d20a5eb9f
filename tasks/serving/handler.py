"""Django's ASGI application, with each request in one thread from end to end."""

import asyncio
import threading
from typing import Any

import django
from asgiref.sync import sync_to_async
from django.core.handlers.asgi import ASGIHandler
from django.http import HttpRequest, HttpResponseBase

from ..sql import patience


class Handler(ASGIHandler):
    """Runs middleware and views as under WSGI: ours are synchronous.

    Django's own hands a request to its thread and back for every middleware, twice: a third of
    the time of a small call.
    """

    def load_middleware(self, is_async: bool = False) -> None:
        super().load_middleware(is_async=False)

    async def get_response_async(self, request: HttpRequest) -> HttpResponseBase:
        """Ends what the thread asks the database when the client is gone, or the server ends."""
        given_up = threading.Event()
        try:
            return await sync_to_async(self._respond, thread_sensitive=True)(request, given_up)
        except asyncio.CancelledError:
            given_up.set()
            raise

    async def send_response(self, response: HttpResponseBase, send: Any) -> None:
        """A large answer is let go of at once: Django's own circles keep it for long."""
        try:
            await super().send_response(response, send)
        finally:
            if let_go := getattr(response, "let_go", None):
                let_go()

    def _respond(self, request: HttpRequest, given_up: threading.Event) -> HttpResponseBase:
        with patience.until(given_up):
            return self.get_response(request)


def application() -> Handler:
    """In place of Django's `get_asgi_application`."""
    django.setup(set_prefix=False)
    return Handler()
