"""A task group: the graph that tasks belong to."""

from django.db import models
from django.db.models.functions import Now

from ..rules.names import new_id


class TaskGroup(models.Model):
    """A graph of tasks that is paused, resumed, reset, retried and deleted as one."""

    id = models.CharField(primary_key=True, max_length=200, default=new_id, editable=False)
    name = models.CharField(max_length=200, blank=True, default="")
    # Tasks created while this is set are created paused (contract, decision 6).
    is_paused = models.BooleanField(default=False)
    # How many tasks the group holds. Kept in the transaction that adds or removes them, so that
    # neither the size limit nor a progress bar counts a million rows.
    task_count = models.IntegerField(default=0, editable=False)
    created_at = models.DateTimeField(db_default=Now(), editable=False)

    class Meta:
        constraints = [
            models.CheckConstraint(
                condition=models.Q(task_count__gte=0), name="crew_group_task_count_not_negative"
            )
        ]
        indexes = [
            # The list of groups, newest first, in pages.
            models.Index(fields=["-created_at", "-id"], name="crew_group_newest"),
        ]
        verbose_name = "task group"

    def __str__(self) -> str:
        return self.name or self.id
