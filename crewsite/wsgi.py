"""The WSGI entry point: HTTP without websockets."""

from django.core.wsgi import get_wsgi_application

from crewsite.environment import choose_settings

choose_settings()

application = get_wsgi_application()

# Not before the apps are ready.
from crewsite.start import refuse_wrong_settings  # noqa: E402
from tasks.serving import database  # noqa: E402

refuse_wrong_settings()
database.prepare()
