"""What a group, task, parent edge, attempt, shared output, worker, workgroup, scheduler, cut call,
chore, change, token and audit entry are.

Facts only: fields, constraints, indexes and reads. A column of a task begins in `task.py`. States
are derived (`rules/states.py`). What may be done is not decided here.
"""

from .access import OperatorPassword, RepeatableCall, Token
from .audit import AuditEntry, AuditSeal
from .fleet import Change, Chore, CutCall, Limit, SchedulerProcess, Worker, Workgroup
from .group import TaskGroup
from .output import SharedOutput
from .task import Attempt, Outcome, ParentEdge, Task

__all__ = [
    "Attempt",
    "AuditEntry",
    "AuditSeal",
    "Change",
    "Chore",
    "CutCall",
    "Limit",
    "OperatorPassword",
    "Outcome",
    "ParentEdge",
    "RepeatableCall",
    "SchedulerProcess",
    "SharedOutput",
    "Task",
    "TaskGroup",
    "Token",
    "Worker",
    "Workgroup",
]
