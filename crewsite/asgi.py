"""The ASGI entry point: HTTP and the live streams, for `manage.py crewweb` or any ASGI server."""

from channels.routing import ProtocolTypeRouter, URLRouter
from django.conf import settings
from django.contrib.staticfiles.handlers import ASGIStaticFilesHandler
from django.urls import re_path

from crewsite.environment import choose_settings
from tasks.serving import handler

choose_settings()

http = handler.application()
if settings.DEBUG:
    # As runserver does; in production the web server in front serves STATIC_ROOT.
    http = ASGIStaticFilesHandler(http)

# Not before the apps are ready.
from crewsite.headers import Headers  # noqa: E402
from crewsite.start import refuse_wrong_settings  # noqa: E402
from tasks.live import socket  # noqa: E402
from tasks.routing import websocket_urlpatterns  # noqa: E402
from tasks.serving import database  # noqa: E402
from tasks.serving.middleware import BodyLimit, ConnectionLimit  # noqa: E402

refuse_wrong_settings()
database.prepare()

sockets = URLRouter([*websocket_urlpatterns(), re_path("", socket.unknown)])

application = ConnectionLimit(
    ProtocolTypeRouter({"http": Headers(BodyLimit(http)), "websocket": sockets})
)
