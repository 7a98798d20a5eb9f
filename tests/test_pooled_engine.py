"""The engine's tests with several connections, run again through a PgBouncer in transaction mode.

`./crew test --pooled` runs all of them so. (F24)
"""

import contextlib
from collections.abc import Iterator

import pytest
from django.db import connection

from . import servers
from .processes import database_url
from .test_claim import (  # noqa: F401
    test_schedulers_at_once_take_each_task_once_and_keep_to_limits,
)
from .test_control import test_verbs_and_settles_at_once_leave_the_counts_true  # noqa: F401
from .test_races import *  # noqa: F403
from .test_scheduler import *  # noqa: F403
from .test_settle import test_settles_at_once_count_each_parent_once  # noqa: F401

# Each statement outside a transaction may meet another session: without the tests' own around.
pytestmark = [pytest.mark.postgres, pytest.mark.django_db(transaction=True)]


@pytest.fixture(scope="module")
def pooler(django_db_setup: None) -> Iterator[servers.Pooler]:
    with contextlib.ExitStack() as stack:
        try:
            pooler = stack.enter_context(servers.pooler(database_url(), sessions=10))
        except servers.ServerError as error:
            pytest.skip(str(error))
        pooler.open_all()
        yield pooler


@pytest.fixture(autouse=True)
def pooled(
    request, pooler: servers.Pooler, transactional_db: None, monkeypatch, settings
) -> Iterator[None]:
    """All connections of the test, in any thread, are to the pooler."""
    if request.node.get_closest_marker("own_session"):
        pytest.skip("needs a session of its own")
    through = {"HOST": "127.0.0.1", "PORT": pooler.port, "DISABLE_SERVER_SIDE_CURSORS": True}
    settings.CREW_NOTIFY = False  # as the site has it then
    with monkeypatch.context() as patch:
        for name, value in through.items():
            patch.setitem(connection.settings_dict, name, value)
        connection.close()
        yield
        connection.close()


def test_one_statement_after_another_meets_other_sessions():
    """So nothing above found in a session what it had left there, unless by chance."""
    pids = set()
    for _ in range(20):
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_backend_pid()")
            pids.update(cursor.fetchone())

    assert len(pids) > 3
