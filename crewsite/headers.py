"""The headers that keep browsers from doing with our answers what nobody meant."""

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from csp.constants import NONE, SELF
from csp.middleware import CSPMiddleware
from csp.utils import build_policy
from django.conf import settings
from django.http import HttpRequest, HttpResponseBase

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Application = Callable[[Message, Receive, Send], Awaitable[None]]

# Everything comes from this site, and no script or style from a page's own text.
POLICY = {
    "default-src": [NONE],
    "script-src": [SELF],
    "style-src": [SELF],
    "img-src": [SELF, "data:"],
    "font-src": [SELF],
    "connect-src": [SELF],  # the streams too: 'self' covers ws of the same origin
    "form-action": [SELF],
    "frame-ancestors": [NONE],
    "base-uri": [NONE],
    "object-src": [NONE],
}
NOT_ALLOWED = ("camera", "display-capture", "geolocation", "microphone", "payment", "usb")
PERMISSIONS = ", ".join(f"{name}=()" for name in NOT_ALLOWED)


class HeadersMiddleware(CSPMiddleware):
    """The policy; and what says nothing about caching is not stored."""

    def process_response(
        self, request: HttpRequest, response: HttpResponseBase
    ) -> HttpResponseBase:
        response.headers.setdefault("Permissions-Policy", PERMISSIONS)
        response.headers.setdefault("Cache-Control", "no-store")
        return super().process_response(request, response)


class Headers:
    """For what answers before Django's middleware: static files, and refused bodies."""

    def __init__(self, application: Application) -> None:
        self.application = application
        self._added = [
            (b"content-security-policy", build_policy().encode()),
            (b"x-content-type-options", b"nosniff"),
        ]

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start" and not _is_debug_page(message):
                has = {name.lower() for name, _ in message["headers"]}
                added = [header for header in self._added if header[0] not in has]
                message = {**message, "headers": [*message["headers"], *added]}
            await send(message)

        await self.application(scope, receive, send_with_headers)


def _is_debug_page(message: Message) -> bool:
    """Django's own, whose script and style are its text; the middleware leaves them out too."""
    return settings.DEBUG and message["status"] in (404, 500)
