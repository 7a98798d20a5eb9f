"""django-q2 with the ORM on PostgreSQL as its broker, or Redis. A group has no callback."""

import os

from .call import enqueue, post

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "benchmarks.peers.django_q_settings")


def call() -> None:
    post("a task of django-q2 does not know its id")


def independent(count: int) -> None:
    from django_q.tasks import async_task

    for _ in range(count):
        async_task("benchmarks.peers.django_q.call")


def hops(count: int) -> None:
    from django_q.tasks import async_chain

    async_chain([("benchmarks.peers.django_q.call", ())] * count)


def main() -> None:
    import django

    django.setup()
    enqueue(independent=independent, chain=hops)
