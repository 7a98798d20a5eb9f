"""`manage.py crewweb`: a shell around `serving.server.Server`."""

import logging
import os
from argparse import ArgumentParser
from importlib.util import find_spec
from typing import Any

from channels.routing import get_default_application
from django.conf import settings
from django.core.management.base import BaseCommand, CommandError
from django.db import Error, connections

from ...access import ensure_operator
from ...doors import default_credentials, open_doors
from ...sql import patience

logger = logging.getLogger(__name__)

STATEMENT_MOST = 120.0  # seconds: to delete a large group takes its time
CONNECTED_WITHIN = 5.0  # seconds that a request waits for a connection, and one is tried for


class Command(BaseCommand):
    help = (
        "Serve HTTP and the live streams until stopped. SIGTERM or Ctrl-C lets requests under way "
        "finish, for a few seconds. With -v 0 requests are not logged."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("-b", "--bind", default=_default("HOST", "127.0.0.1"), help="address")
        parser.add_argument("-p", "--port", type=int, default=int(_default("PORT", "8090")))

    def handle(self, *args: Any, bind: str, port: int, **options: Any) -> None:
        from ...serving.server import Server  # installs Twisted's reactor

        for problem in default_credentials(bind):
            raise CommandError(f"{problem.msg} {problem.hint}")
        for words in open_doors():
            logger.warning("%s", words)
        _pool_connections()
        patience.limit(STATEMENT_MOST, sessions=False)
        try:
            ensure_operator()
        except Error as error:
            logger.warning("The operator's account was not looked at: %s", error)
        finally:
            connections.close_all()
        failure = Server(get_default_application(), host=bind, port=port).run()
        if failure:
            raise CommandError(failure)


def _default(name: str, otherwise: str) -> str:
    return str(getattr(settings, name, None) or os.environ.get(name) or otherwise)


def _pool_connections() -> None:
    """Each request has a thread of its own here: a connection kept by it would be lost.

    A new one for each request would cost PostgreSQL more than the request itself. While the
    database is away the pool tries ever more seldom, up to minutes; so each try ends soon, and
    the next request begins another.
    """
    database = connections.settings["default"]
    if not find_spec("psycopg_pool") or "pool" in database["OPTIONS"]:
        return
    if "postgresql" in database["ENGINE"]:
        database["CONN_MAX_AGE"] = 0
        database["OPTIONS"]["pool"] = {
            "min_size": 1,
            "max_size": 20,
            "timeout": CONNECTED_WITHIN,
            "reconnect_timeout": CONNECTED_WITHIN,
        }
