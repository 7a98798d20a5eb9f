"""Huey with Redis. A task is taken off the list when it starts: what runs in a crash is lost."""

import os

if os.environ.get("BENCH_GREENLETS"):
    from gevent import monkey

    monkey.patch_all()

from huey import RedisHuey, chord
from redis import ConnectionPool

from .call import BROKER, enqueue, post

huey = RedisHuey("bench", connection_pool=ConnectionPool.from_url(BROKER))


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


if __name__ == "__main__":
    from benchmarks.peers import huey_redis as this

    enqueue(independent=this.independent, fan=this.fan, chain=this.hops)
