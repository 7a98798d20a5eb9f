"""Huey with Redis. A task is taken off the list when it starts: what runs in a crash is lost."""

import os

if os.environ.get("BENCH_GREENLETS"):
    from gevent import monkey

    monkey.patch_all()

from huey import RedisHuey, chord
from redis import ConnectionPool

from .call import BROKER, enqueue, post

# Each worker waits on a connection of its own; a pool has 100 unless it is set otherwise.
pool = ConnectionPool.from_url(BROKER, max_connections=1_200)
huey = RedisHuey("bench", connection_pool=pool)


@huey.task(context=True)
def call(*_results, task=None):
    post(task.id)


@huey.task(context=True)
def root(wide: int, task=None):
    post(task.id)
    huey.enqueue(chord([call.s() for _ in range(wide)], call.s()))


def independent(count: int) -> None:
    for _ in range(count):
        call()


def fan(count: int) -> None:
    root(count - 2)


def hops(count: int) -> None:
    first = call.s()
    for _ in range(count - 1):
        first.then(call)
    huey.enqueue(first)


def main() -> None:
    enqueue(independent=independent, fan=fan, chain=hops)
