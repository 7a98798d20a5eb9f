"""A scheduler in a thread of the test's process."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from django.db import connection

from tasks.engine.scheduler import Scheduler


@contextmanager
def running(*, slots: int = 20) -> Iterator[Scheduler]:
    """It works until the end of the block, and has stopped then."""
    scheduler = Scheduler(slots=slots)

    def work() -> None:
        try:
            scheduler.run()
        finally:
            connection.close()

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    try:
        yield scheduler
    finally:
        scheduler.stop()
        thread.join(30)
        assert not thread.is_alive()
