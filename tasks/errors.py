"""The few errors of Crew's own. Each reads as a sentence when printed.

CrewError
├── InvalidInputError   what was given cannot be right (400)
├── NotFoundError       what was named is not there (404)
└── ConflictError       it is there, and in the way (409)
"""

__all__ = ["ConflictError", "CrewError", "InvalidInputError", "NotFoundError"]


class CrewError(Exception):
    """What the caller can be told in one sentence."""


class InvalidInputError(CrewError, ValueError):
    """What was given cannot be right."""


class NotFoundError(CrewError):
    """What was named is not there."""


class ConflictError(CrewError):
    """It is there, and in the way."""
