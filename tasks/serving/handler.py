"""Django's ASGI application, with each request in one thread from end to end."""

import django
from asgiref.sync import sync_to_async
from django.core.handlers.asgi import ASGIHandler
from django.http import HttpRequest, HttpResponseBase


class Handler(ASGIHandler):
    """Runs middleware and views as under WSGI: ours are synchronous.

    Django's own hands a request to its thread and back for every middleware, twice: a third of
    the time of a small call.
    """

    def load_middleware(self, is_async: bool = False) -> None:
        super().load_middleware(is_async=False)

    async def get_response_async(self, request: HttpRequest) -> HttpResponseBase:
        return await sync_to_async(self.get_response, thread_sensitive=True)(request)


def application() -> Handler:
    """In place of Django's `get_asgi_application`."""
    django.setup(set_prefix=False)
    return Handler()
