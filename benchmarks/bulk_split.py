"""Where the time of one large create goes: the view in this process, its steps by the clock.

    python -m benchmarks.bulk_split TASKS PARENTS    # prints seconds by step, as JSON

`bulk.py` runs it with the environment of its web process.
"""

import json
import os
import sys
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

import django

from .bulk import fresh_name, graph
from .posts import TOKEN

STEPS = ("parse", "validate", "cycle check", "insert tasks", "insert edges", "publish", "commit")
seconds: Counter[str] = Counter()


def main() -> None:
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "crewsite.settings")
    django.setup()
    from django.test import Client

    _watch()
    body = json.dumps({"tasks": graph(fresh_name(), int(sys.argv[1]), int(sys.argv[2]))}).encode()
    client = Client(headers={"Authorization": f"Bearer {TOKEN}", "Host": "127.0.0.1"})
    client.post("/api/v1/task_groups", b"{}", content_type="application/json")  # warms up
    seconds.clear()
    started = time.perf_counter()
    answer = client.post("/api/v1/task_groups", body, content_type="application/json")
    whole = time.perf_counter() - started
    if answer.status_code != 200:
        raise SystemExit(answer.content[:300])
    split = {step: seconds[step] for step in STEPS}
    print(json.dumps(split | {"rest": whole - sum(split.values())}))


def _watch() -> None:
    from django.db import connection

    from tasks import create
    from tasks.api import body
    from tasks.sql import create as sql
    from tasks.store import changes, rows

    _timed(body.Body, "json", lambda *_: "parse")
    _timed(create, "read_specs", lambda *_: "validate")
    _timed(create.graph, "check_new", lambda *_: "cycle check")
    _timed(rows, "put", lambda what, _: "insert tasks" if what is sql.TASK_ROWS else "insert edges")
    _timed(changes, "tasks_created", lambda *_: "publish")
    _timed(connection, "_commit", lambda *_: "commit")


def _timed(where: Any, name: str, step: Callable[..., str]) -> None:
    real = getattr(where, name)

    def timed(*args: Any, **options: Any) -> Any:
        started = time.perf_counter()
        try:
            return real(*args, **options)
        finally:
            seconds[step(*args)] += time.perf_counter() - started

    setattr(where, name, timed)


if __name__ == "__main__":
    main()
