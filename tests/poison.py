"""A deliverer for tests: the answer to the task `poison` kills the process that reads it."""

import os
import signal

from tasks.delivery.calls import Delivery, OnAnswer
from tasks.delivery.event_loop import AsyncioDeliverer
from tasks.rules.decide import Answer


class PoisonedDeliverer(AsyncioDeliverer):
    def start(self, on_answer: OnAnswer) -> None:
        def read(delivery: Delivery, answer: Answer) -> None:
            if delivery.task_id == "poison":
                os.kill(os.getpid(), signal.SIGKILL)
            on_answer(delivery, answer)

        super().start(read)
