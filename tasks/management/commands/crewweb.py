"""`manage.py crewweb`: a shell around `serving.server.Server`."""

import logging
import os
from argparse import ArgumentParser, ArgumentTypeError
from typing import Any

from channels.routing import get_default_application
from django.conf import settings
from django.core.management.base import CommandError

from ...checks.logins import default_credentials, open_doors
from ..base import CrewCommand

logger = logging.getLogger("crew.serving.server")

# Who writes a line for each request or stream; faults of ours, and what is amiss, are still told.
OF_REQUESTS = {
    "crew.serving.access": logging.WARNING,
    "crew.live.socket": logging.WARNING,
    "django.request": logging.ERROR,
}


class Command(CrewCommand):
    help = (
        "Serve HTTP and the live streams until stopped. SIGTERM or Ctrl-C lets requests under way "
        "finish, for a few seconds. With -v 0 requests are not logged."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("-b", "--bind", default=_default("HOST", "127.0.0.1"), help="address")
        parser.add_argument("-p", "--port", type=_port, default=_default("PORT", "8090"))

    def handle(self, *args: Any, bind: str, port: int, **options: Any) -> None:
        from ...serving import database, memory
        from ...serving.server import Server  # installs Twisted's reactor

        for problem in default_credentials(bind):
            raise CommandError(f"{problem.msg} {problem.hint}")
        for words in open_doors():
            logger.warning("%s", words)
        memory.share_what_is_free()
        application = get_default_application()
        # After the site is loaded, which sets up the log.
        if options["verbosity"] == 0:
            for name, level in OF_REQUESTS.items():
                logging.getLogger(name).setLevel(level)
        database.prepare()
        failure = Server(application, host=bind, port=port).run()
        if failure:
            raise CommandError(failure)


def _port(given: str) -> int:
    if given.isdecimal() and given.isascii() and int(given[:6]) <= 65_535:
        return int(given)
    raise ArgumentTypeError(f"PORT must be a whole number from 0 to 65535, not {given[:60]!r}")


def _default(name: str, otherwise: str) -> str:
    return str(getattr(settings, name, None) or os.environ.get(name) or otherwise)
