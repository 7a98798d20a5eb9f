"""A typed client of Crew's HTTP API, on `requests`; it needs no Django."""

from .crew import Crew
from .errors import (
    Changed,
    Conflict,
    CrewError,
    Forbidden,
    GroupStuck,
    InvalidInput,
    NotFound,
    RateLimited,
    ServerError,
    TooLarge,
    Unauthorized,
    Unreachable,
    Unreadable,
    WaitTimeout,
)
from .values import Attempt, Created, Group, Task, TaskFields, Touched, Which, Worker, Workgroup
from .waiting import Progress

__all__ = [
    "Attempt",
    "Changed",
    "Conflict",
    "Created",
    "Crew",
    "CrewError",
    "Forbidden",
    "Group",
    "GroupStuck",
    "InvalidInput",
    "NotFound",
    "Progress",
    "RateLimited",
    "ServerError",
    "Task",
    "TaskFields",
    "TooLarge",
    "Touched",
    "Unauthorized",
    "Unreachable",
    "Unreadable",
    "WaitTimeout",
    "Which",
    "Worker",
    "Workgroup",
]
