"""The WSGI entry point: HTTP without websockets."""

import os

from django.core.wsgi import get_wsgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "crewsite.settings")

application = get_wsgi_application()

# Not before the apps are ready.
from tasks.serving import database  # noqa: E402

database.prepare()
