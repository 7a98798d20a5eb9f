"""Celery with Redis as broker and result backend.

Tasks whose result nobody reads ignore it, as Celery's documentation advises; the members of a
chord cannot. Acknowledged early, which is Celery's default: what is running when a worker dies
is lost.
"""

from celery import Celery, chain, chord

from .call import BROKER, enqueue, post

app = Celery("benchmarks.peers.celery_redis", broker=BROKER, backend=BROKER)
app.conf.update(
    broker_connection_retry_on_startup=True,
    task_default_queue="bench",
    worker_prefetch_multiplier=64,  # "if you have many short tasks"
)


@app.task(ignore_result=True, bind=True)
def call(self):
    post(self.request.id)


@app.task(bind=True)
def member(self):
    post(self.request.id)


@app.task(ignore_result=True, bind=True)
def root(self, wide: int):
    post(self.request.id)
    chord(member.si() for _ in range(wide))(call.si())


def independent(count: int) -> None:
    with app.producer_or_acquire() as producer:
        for _ in range(count):
            call.apply_async(producer=producer)


def fan(count: int) -> None:
    root.delay(count - 2)


def hops(count: int) -> None:
    chain(call.si() for _ in range(count)).apply_async()


def main() -> None:
    enqueue(independent=independent, fan=fan, chain=hops)
