"""A task, its parents and its attempts."""

from typing import Any

from django.db import models
from django.db.models import Q
from django.db.models.functions import Now

from ..rules.names import new_id
from ..rules.states import State
from .group import TaskGroup
from .output import OutputField, PayloadField, SharedOutput
from .queries import READY, TaskQuerySet, in_state

# The condition of two indexes. Few tasks are in them, so they cost the others nothing.
FAILED = in_state(State.FAILED)


class Task(models.Model):
    """One call to a worker. Facts only: `Task.objects` derives the states.

    Rows are written by field, never whole: a scheduler may take a lease between a read and a
    `save()`, which is refused without `update_fields`.
    """

    id = models.CharField(primary_key=True, max_length=200, default=new_id, editable=False)
    group = models.ForeignKey(
        TaskGroup, on_delete=models.CASCADE, related_name="tasks", db_index=False
    )
    name = models.CharField(max_length=200, blank=True, default="")
    worker = models.CharField(max_length=200, blank=True, default="")
    workgroup = models.CharField(max_length=200, blank=True, default="")
    key = models.CharField(max_length=200, blank=True, default="")
    input = PayloadField(null=True, blank=True)
    # Reads the shared output where the task has one. Whoever writes it lets go of that.
    output = OutputField(null=True, blank=True)
    errors = models.JSONField(default=list, blank=True)
    remaining_attempts = models.IntegerField(default=5)
    is_paused = models.BooleanField(default=False)
    is_complete = models.BooleanField(default=False)
    is_seed = models.BooleanField(default=False)
    run_after = models.DateTimeField(db_default=Now())
    error_delay_in_seconds = models.IntegerField(default=60)
    # Higher runs first among the due tasks of a scheduler; -10 to 10.
    priority = models.SmallIntegerField(default=0)
    created_at = models.DateTimeField(db_default=Now())
    completed_at = models.DateTimeField(null=True, blank=True)

    # --- The machine's own ---
    # Counts up with every claim and is never reset: with `leased_by` it fences the settle.
    attempt = models.IntegerField(default=0, editable=False)
    leased_by = models.CharField(max_length=36, null=True, editable=False)  # noqa: DJ001  NULL = free
    leased_at = models.DateTimeField(null=True, editable=False)
    # Parents that are not complete. Kept in the transaction that changes what it counts.
    pending_parents = models.IntegerField(default=0, editable=False)
    # The task of the same key that runs, or ran, for this one.
    merged_into = models.CharField(max_length=200, null=True, editable=False)  # noqa: DJ001
    # Where the output stands that the leader of its key gave this duplicate, if it is a long one.
    # It is the duplicate's own by then: what becomes of the leader changes nothing.
    shared_output = models.ForeignKey(
        SharedOutput,
        models.DO_NOTHING,
        null=True,
        editable=False,
        related_name="+",
        db_constraint=False,
        db_index=False,
    )
    # The task whose answer made this one.
    created_by = models.CharField(max_length=200, blank=True, default="", editable=False)
    # When it answers again, those that its earlier answers made and that are complete stay as they
    # are. NULL = no.
    keeps_complete = models.BooleanField(null=True, editable=False)
    # Answers in a row that only asked to wait (decision 8), and leases in a row that were lost.
    held_count = models.IntegerField(default=0, editable=False)
    rescues = models.IntegerField(default=0, editable=False)

    objects = TaskQuerySet.as_manager()

    class Meta:
        constraints = [
            models.CheckConstraint(
                condition=Q(leased_by__isnull=True, leased_at__isnull=True)
                | Q(leased_by__isnull=False, leased_at__isnull=False),
                name="crew_task_lease_whole",
            ),
            models.CheckConstraint(
                condition=Q(leased_by__isnull=True)
                | Q(is_complete=False, merged_into__isnull=True),
                name="crew_task_leased_means_running",
            ),
            models.CheckConstraint(
                condition=Q(is_complete=True, completed_at__isnull=False)
                | Q(is_complete=False, completed_at__isnull=True),
                name="crew_task_complete_has_time",
            ),
            models.CheckConstraint(
                condition=Q(
                    pending_parents__gte=0,
                    remaining_attempts__gte=0,
                    error_delay_in_seconds__gte=0,
                    attempt__gte=0,
                    held_count__gte=0,
                    rescues__gte=0,
                ),
                name="crew_task_counts_not_negative",
            ),
            models.CheckConstraint(
                condition=Q(priority__gte=-10, priority__lte=10), name="crew_task_priority_range"
            ),
            # A key is never executed twice at once in a group. The claim sees to it; the
            # database refuses the rest. Also finds the task a duplicate follows.
            models.UniqueConstraint(
                fields=["group", "key"],
                condition=~Q(key="") & Q(leased_by__isnull=False),
                name="crew_task_key_runs_once",
            ),
        ]
        indexes = [
            # The claim: exact ranges per lane (worker, workgroup, priority) up to now.
            models.Index(
                fields=["worker", "workgroup", "priority", "run_after"],
                name="crew_task_ready",
                condition=READY,
            ),
            # How many leases a worker has; the leases of a scheduler that died.
            models.Index(
                fields=["worker"],
                name="crew_task_worker_leases",
                condition=Q(leased_by__isnull=False),
            ),
            models.Index(
                fields=["leased_by"],
                name="crew_task_leases",
                condition=Q(leased_by__isnull=False),
            ),
            # The duplicates of a key that are not complete.
            models.Index(
                fields=["group", "key"],
                name="crew_task_duplicates",
                condition=~Q(key="") & Q(is_complete=False),
            ),
            # The tasks of a group, oldest first, in pages; and all of a group.
            models.Index(fields=["group", "created_at", "id"], name="crew_task_of_group"),
            # What is left of a group: progress, retry, "hide completed".
            models.Index(
                fields=["group", "created_at", "id"],
                name="crew_task_incomplete",
                condition=Q(is_complete=False),
            ),
            # The tasks for which another of their key runs: when that one is deleted.
            models.Index(
                fields=["merged_into"],
                name="crew_task_followers",
                condition=Q(is_complete=False, merged_into__isnull=False),
            ),
            # The tasks without attempts left, those that failed last first; of one group.
            models.Index(fields=["run_after", "id"], name="crew_task_failed", condition=FAILED),
            models.Index(
                fields=["group", "run_after", "id"],
                name="crew_task_failed_of_group",
                condition=FAILED,
            ),
            # What the earlier answers of a task made, when it runs again.
            models.Index(fields=["created_by"], name="crew_task_made", condition=~Q(created_by="")),
            # Whether anybody refers to a shared output still.
            models.Index(
                fields=["shared_output"],
                name="crew_task_shared_output",
                condition=Q(shared_output__isnull=False),
            ),
        ]

    def __str__(self) -> str:
        return self.name or self.id

    def save(self, *args: Any, **kwargs: Any) -> None:
        if not self._state.adding and kwargs.get("update_fields") is None:
            raise TypeError(
                "Task.save() needs update_fields: a whole row would erase a lease taken meanwhile"
            )
        if "output" in (kwargs.get("update_fields") or ()):
            self.shared_output = None
            kwargs["update_fields"] = {*kwargs["update_fields"], "shared_output"}
        super().save(*args, **kwargs)

    @property
    def is_executing(self) -> bool:
        """The contract's `busyExecuting`: it runs, or a task of the same key runs for it."""
        return self.leased_by is not None or (self.merged_into is not None and not self.is_complete)


class ParentEdge(models.Model):
    """`child` waits for `parent`. Both are in one group, and there is never a cycle.

    The two references carry no database constraint: rows come and go only with their tasks, under
    the group's lock (`docs/decisions.md`), and `manage.py crewcheck` proves it.
    """

    pk = models.CompositePrimaryKey("child_id", "parent_id")
    child = models.ForeignKey(
        Task, models.CASCADE, related_name="parent_edges", db_constraint=False, db_index=False
    )
    parent = models.ForeignKey(
        Task, models.CASCADE, related_name="child_edges", db_constraint=False, db_index=False
    )
    # The order in which the parents were named; the payload keeps it.
    position = models.IntegerField()

    class Meta:
        constraints = [
            models.CheckConstraint(
                condition=~Q(child=models.F("parent")), name="crew_edge_not_to_itself"
            )
        ]
        indexes = [
            # The children of a task that completes, is reset or is deleted.
            models.Index(fields=["parent", "child"], name="crew_edge_children"),
        ]

    def __str__(self) -> str:
        return f"{self.parent_id} -> {self.child_id}"


class Outcome(models.TextChoices):
    """How an attempt ended."""

    COMPLETED = "completed"
    FAILED = "failed"
    HELD = "held"  # the worker asked to wait; no attempt was used up
    ABANDONED = "abandoned"  # the scheduler that had the lease died
    CANCELLED = "cancelled"  # a person reset or deleted the task meanwhile
    # Its own scheduler cut the call, or nobody has read it; no attempt was used up.
    INTERRUPTED = "interrupted"


class Attempt(models.Model):
    """One claim-deliver-settle round that ended. The open one is the lease on the task itself.

    Written once, in the transaction that ends it; only the `late_*` fields follow, when an
    answer comes after the lease was lost. That answer had no other effect.
    """

    task = models.ForeignKey(
        Task, models.CASCADE, related_name="attempts", db_constraint=False, db_index=False
    )
    number = models.IntegerField()
    worker = models.CharField(max_length=200)
    scheduler = models.CharField(max_length=36)
    outcome = models.CharField(max_length=12, choices=Outcome.choices)
    status = models.IntegerField(null=True)
    error = models.TextField(default="", blank=True)
    # What we repaired or ignored in the answer.
    note = models.TextField(default="", blank=True)
    # What went out and what came back, cut (`transcript`). Null: nothing was kept of it. Those of
    # a late answer, where one came.
    request = models.TextField(null=True, blank=True)  # noqa: DJ001
    answer = models.TextField(null=True, blank=True)  # noqa: DJ001
    started_at = models.DateTimeField()
    finished_at = models.DateTimeField()
    late_at = models.DateTimeField(null=True)
    late_outcome = models.CharField(max_length=12, choices=Outcome.choices, blank=True, default="")
    late_status = models.IntegerField(null=True)
    late_error = models.TextField(default="", blank=True)

    class Meta:
        constraints = [
            # A (task, attempt) pair ends once. Also the attempts of a task, in order.
            models.UniqueConstraint(fields=["task", "number"], name="crew_attempt_once"),
        ]

    def __str__(self) -> str:
        return f"attempt {self.number} of {self.task_id}: {self.outcome}"
