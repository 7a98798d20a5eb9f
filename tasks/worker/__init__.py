"""For those who write workers in Python: read a call, check that it is Crew's, answer it.

Needs nothing but Python, so it works in any framework; only `crew_worker` needs Django.

An attempt is sent once, but a task may be attempted again although its worker did the work (the
answer was lost, the scheduler died): make the work repeatable. `Call.webhook_id` is the same for
one attempt only; `Call.task_id` is the same for all attempts at a task.
"""

from .answer import Answer, Child, child, failure, hold, output
from .call import BadCall, Call, Parent, Unauthenticated, read_call
from .view import crew_worker

__all__ = [
    "Answer",
    "BadCall",
    "Call",
    "Child",
    "Parent",
    "Unauthenticated",
    "child",
    "crew_worker",
    "failure",
    "hold",
    "output",
    "read_call",
]
