"""Dramatiq with Redis. Acknowledged when done; no results are kept, none are needed here."""

import dramatiq
from dramatiq import group, pipeline
from dramatiq.brokers.redis import RedisBroker
from dramatiq.middleware import CurrentMessage
from dramatiq.middleware.group_callbacks import GroupCallbacks
from dramatiq.rate_limits.backends import RedisBackend

from .call import BROKER, enqueue, post

broker = RedisBroker(url=BROKER)
broker.add_middleware(GroupCallbacks(RedisBackend(url=BROKER)))
broker.add_middleware(CurrentMessage())
dramatiq.set_broker(broker)


@dramatiq.actor
def call():
    post(CurrentMessage.get_current_message().message_id)


@dramatiq.actor
def root(wide: int):
    post(CurrentMessage.get_current_message().message_id)
    members = group([call.message() for _ in range(wide)])
    members.add_completion_callback(call.message())
    members.run()


def independent(count: int) -> None:
    for _ in range(count):
        call.send()


def fan(count: int) -> None:
    root.send(count - 2)


def hops(count: int) -> None:
    pipeline([call.message_with_options(pipe_ignore=True) for _ in range(count)]).run()


def main() -> None:
    enqueue(independent=independent, fan=fan, chain=hops)
