"""A deliverer for tests: the answer to the task `poison` kills the process that reads it."""

import os
import signal

from tasks.decide import Answer
from tasks.deliver import Delivery, OnAnswer
from tasks.deliver_asyncio import AsyncioDeliverer


class PoisonedDeliverer(AsyncioDeliverer):
    def start(self, on_answer: OnAnswer) -> None:
        def read(delivery: Delivery, answer: Answer) -> None:
            if delivery.task_id == "poison":
                os.kill(os.getpid(), signal.SIGKILL)
            on_answer(delivery, answer)

        super().start(read)
