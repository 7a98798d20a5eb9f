"""Procrastinate with PostgreSQL: asynchronous tasks, by aiohttp. It has no fan-in of its own."""

import aiohttp
from procrastinate import App, PsycopgConnector, SyncPsycopgConnector

from .call import BASE, BROKER, MOST, body, enqueue

app = App(connector=PsycopgConnector(conninfo=BROKER))
TASKS_PER_STATEMENT = 1_000
_sessions: list[aiohttp.ClientSession] = []


def _session() -> aiohttp.ClientSession:
    """One, made in the worker's loop."""
    if not _sessions:
        _sessions.append(aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=MOST)))
    return _sessions[0]


@app.task(queue="bench", name="call", pass_context=True)
async def call(context, left: int = 0):
    async with _session().post(f"{BASE}noop", json=body(str(context.job.id))) as answer:
        answer.raise_for_status()
        await answer.json()
    if left:
        await call.defer_async(left=left - 1)


def independent(count: int) -> None:
    for done in range(0, count, TASKS_PER_STATEMENT):
        call.batch_defer(*[{}] * min(TASKS_PER_STATEMENT, count - done))


def hops(count: int) -> None:
    call.defer(left=count - 1)


def main() -> None:
    with app.replace_connector(SyncPsycopgConnector(conninfo=BROKER)) as sync, sync.open():
        enqueue(independent=independent, chain=hops)


def make_tables() -> None:
    with app.replace_connector(SyncPsycopgConnector(conninfo=BROKER)) as sync, sync.open():
        sync.schema_manager.apply_schema()
