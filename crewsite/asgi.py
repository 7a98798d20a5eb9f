"""The ASGI entry point: HTTP and the live streams, for `manage.py crewweb` or any ASGI server."""

import os

from channels.routing import ProtocolTypeRouter, URLRouter
from django.conf import settings
from django.contrib.staticfiles.handlers import ASGIStaticFilesHandler
from django.urls import re_path

from tasks.serving import handler

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "crewsite.settings")

http = handler.application()
if settings.DEBUG:
    # As runserver does; in production the web server in front serves STATIC_ROOT.
    http = ASGIStaticFilesHandler(http)

# Not before the apps are ready.
from crewsite.headers import Headers  # noqa: E402
from tasks.live import socket  # noqa: E402
from tasks.routing import websocket_urlpatterns  # noqa: E402
from tasks.serving import database  # noqa: E402
from tasks.serving.middleware import BodyLimit, ConnectionLimit  # noqa: E402

database.prepare()

sockets = URLRouter([*websocket_urlpatterns(), re_path("", socket.unknown)])

application = ConnectionLimit(
    ProtocolTypeRouter({"http": Headers(BodyLimit(http)), "websocket": sockets})
)
