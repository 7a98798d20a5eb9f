"""How a web process uses its database, whatever serves it: for the site's `asgi` and `wsgi`."""

import logging
import threading
from importlib.util import find_spec

from django.conf import settings
from django.db import Error, connections

from ..access.callers import ensure_operator
from ..checks.logins import default_credentials, weak_password
from ..conf import conf
from ..sql import patience

logger = logging.getLogger("crew.serving.database")

STATEMENT_MOST = 60.0  # seconds; a verb on a large group takes many statements
CONNECTED_WITHIN = 5.0  # seconds that a request waits for a connection, and one is tried for

_prepared = threading.Event()


def prepare() -> None:
    """Limit how long this process waits and how many connections it has; make the operator.

    Before the first request, once. The server may import us in its event loop, where Django asks no
    database: the operator is made by another thread, and its connection gone before we may fork.
    """
    if _prepared.is_set():
        return
    _prepared.set()
    patience.limit(STATEMENT_MOST, sessions=True)
    asking = threading.Thread(target=_make_operator)
    asking.start()
    asking.join()
    _share_connections()


def _share_connections() -> None:
    """All requests share CREW_WEB_CONNECTIONS, where psycopg_pool is installed.

    Each request may have a thread of its own, in which a connection that is kept is lost; and a new
    one for each costs PostgreSQL more than the request itself. While the database is away the pool
    tries ever more seldom, up to minutes; so each try ends soon, and the next request begins
    another.
    """
    database = connections.settings["default"]
    if not find_spec("psycopg_pool") or "pool" in database["OPTIONS"]:
        return
    if "postgresql" in database["ENGINE"]:
        database["CONN_MAX_AGE"] = 0
        database["OPTIONS"]["pool"] = {
            "min_size": 1,
            "max_size": conf.CREW_WEB_CONNECTIONS,
            "timeout": CONNECTED_WITHIN,
            "reconnect_timeout": CONNECTED_WITHIN,
        }


def _make_operator() -> None:
    host = getattr(settings, "HOST", "127.0.0.1")
    for problem in (*default_credentials(host), *weak_password()):
        logger.error("No operator's account is made: %s", problem.msg)
        return
    try:
        ensure_operator()
    except Error as error:
        logger.warning("The operator's account was not looked at: %s", error)
    finally:
        connections.close_all()
