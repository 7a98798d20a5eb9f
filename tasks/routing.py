"""Where the websockets are, for a host project's `URLRouter`."""

from django.urls import URLPattern, re_path

from .live import socket


def websocket_urlpatterns(prefix: str = "") -> list[URLPattern]:
    """The stream of a group below the prefix that `tasks.urls` are mounted at."""
    at = f"{prefix.strip('/')}/".lstrip("/")
    path = r"api/v1/task_group/(?P<gid>[^/]+)/stream/(?P<token>[^/]+)$"
    return [re_path(f"^{at}{path}", socket.stream)]  # type: ignore[arg-type]
