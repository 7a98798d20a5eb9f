"""A typed client of Crew's HTTP API, on `requests`; it needs no Django."""

from .crew import Crew
from .errors import (
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
    WaitTimeout,
)
from .values import Attempt, Created, Group, Task, TaskFields, Touched, Which, Worker, Workgroup

__all__ = [
    "Attempt",
    "Conflict",
    "Created",
    "Crew",
    "CrewError",
    "Forbidden",
    "Group",
    "GroupStuck",
    "InvalidInput",
    "NotFound",
    "RateLimited",
    "ServerError",
    "Task",
    "TaskFields",
    "TooLarge",
    "Touched",
    "Unauthorized",
    "Unreachable",
    "WaitTimeout",
    "Which",
    "Worker",
    "Workgroup",
]
