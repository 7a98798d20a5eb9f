"""The ASGI entry point that daphne serves."""

import os

from channels.routing import ProtocolTypeRouter
from django.conf import settings
from django.contrib.staticfiles.handlers import ASGIStaticFilesHandler
from django.core.asgi import get_asgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "crewsite.settings")

http = get_asgi_application()
if settings.DEBUG:
    # As runserver does; in production the web server in front serves STATIC_ROOT.
    http = ASGIStaticFilesHandler(http)

application = ProtocolTypeRouter({"http": http})
