"""What a group, task, parent edge, attempt, worker, workgroup, scheduler and change are.

Facts only: fields, constraints, indexes and reads. States are derived (`queries.py`).
"""

from .fleet import Change, SchedulerProcess, Worker, Workgroup
from .group import TaskGroup
from .task import Attempt, Outcome, ParentEdge, Task

__all__ = [
    "Attempt",
    "Change",
    "Outcome",
    "ParentEdge",
    "SchedulerProcess",
    "Task",
    "TaskGroup",
    "Worker",
    "Workgroup",
]
