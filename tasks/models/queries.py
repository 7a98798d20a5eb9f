"""The states of a task, as queries. Each name is a word of the glossary.

The database's clock decides what is due (`Now()`), never Python's.
"""

from typing import Any, Self

from django.db import models
from django.db.models import Q
from django.db.models.functions import Now

# Everything but the clock. The same words, in SQL, are the condition of the index
# `crew_task_ready` and of the claim (`sql/claim.py`); a test holds the three together.
READY = Q(
    is_complete=False,
    is_paused=False,
    leased_by__isnull=True,
    remaining_attempts__gt=0,
    pending_parents=0,
    merged_into__isnull=True,
) & ~Q(worker="")


class TaskQuerySet(models.QuerySet[Any]):
    def update(self, **kwargs: Any) -> int:
        """Whoever writes an output lets go of the shared one."""
        if "output" in kwargs:
            kwargs.setdefault("shared_output", None)
        return super().update(**kwargs)

    def ready(self) -> Self:
        """May be claimed now, as far as the task itself is concerned.

        A held workgroup, a full worker or a full scheduler may still keep it waiting.
        """
        return self.filter(READY, run_after__lte=Now())

    def scheduled(self) -> Self:
        """Would be ready, but is due later."""
        return self.filter(READY, run_after__gt=Now())

    def claimed(self) -> Self:
        """An attempt is in flight."""
        return self.filter(leased_by__isnull=False)

    def blocked(self) -> Self:
        """A parent is not complete."""
        return self.filter(is_complete=False, pending_parents__gt=0)

    def exhausted(self) -> Self:
        """Not complete, and no attempts left."""
        return self.filter(is_complete=False, leased_by__isnull=True, remaining_attempts=0)

    def incomplete(self) -> Self:
        return self.filter(is_complete=False)
