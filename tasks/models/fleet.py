"""Those who do the work and those who hand it out: workers, workgroups, schedulers, changes."""

from datetime import timedelta
from typing import Any, Self

from django.db import models
from django.db.models import Count, Q
from django.db.models.functions import Now

from ..conf import conf


class Worker(models.Model):
    """A webhook by name. The row exists from the first task that names it."""

    name = models.CharField(primary_key=True, max_length=200)
    # None = CREW_WORKER_MAX_CONCURRENCY. Exact over all schedulers: the claim locks this row
    # while it counts the worker's leases.
    max_concurrency = models.PositiveIntegerField(
        null=True,
        blank=True,
        help_text="Attempts in flight over all schedulers; empty for the default, 0 for none.",
    )

    class Meta:
        verbose_name = "worker"

    def __str__(self) -> str:
        return self.name

    @property
    def limit(self) -> int | None:
        """What counts: its own limit, or the default; None = no limit."""
        own = self.max_concurrency
        return conf.CREW_WORKER_MAX_CONCURRENCY if own is None else own


class Limit(models.Model):
    """How a worker that failed is treated (`outages`). Only a failure makes the row.

    `kind` is "worker" so far. Written by the settle, read by the claim under its lock.
    """

    pk = models.CompositePrimaryKey("kind", "name")
    kind = models.CharField(max_length=20)
    name = models.CharField(max_length=200)
    # Failures in a row, and rests in a row: not 0 until the worker has answered.
    fails = models.IntegerField(default=0)
    rests = models.IntegerField(default=0)
    # As many attempts may be in flight of those that began since `held_since`; NULL = any.
    ramp = models.FloatField(null=True)
    # Until then it rests; from then on one attempt at a time tries it.
    held_until = models.DateTimeField(null=True)
    held_since = models.DateTimeField(null=True)
    held_why = models.CharField(max_length=500, blank=True, default="")

    class Meta:
        constraints = [
            models.CheckConstraint(
                condition=models.Q(fails__gte=0, rests__gte=0), name="crew_limit_not_negative"
            ),
            models.CheckConstraint(
                condition=models.Q(rests=0, held_until__isnull=True)
                | models.Q(rests__gt=0, held_until__isnull=False, held_since__isnull=False),
                name="crew_limit_rest_whole",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.kind} {self.name}"


class Workgroup(models.Model):
    """Tasks that share one external limit. The row exists from its first hold."""

    name = models.CharField(primary_key=True, max_length=200)
    # While this is in the future no task of the workgroup is claimed, in any group.
    held_until = models.DateTimeField(null=True, blank=True)
    # The task whose answer asked for the hold; "" when an operator did.
    held_by = models.CharField(max_length=200, blank=True, default="", editable=False)

    class Meta:
        verbose_name = "workgroup"

    def __str__(self) -> str:
        return self.name


class SchedulerQuerySet(models.QuerySet[Any]):
    def alive(self) -> Self:
        """Their heartbeat is younger than a lease."""
        return self.filter(beat_at__gt=Now() - timedelta(seconds=conf.CREW_LEASE_SECONDS))


class SchedulerProcess(models.Model):
    """One running scheduler. Its leases live as long as its heartbeat."""

    # Fresh at every start: a reused host name or pid never looks like the old process.
    id = models.CharField(primary_key=True, max_length=36)
    host = models.CharField(max_length=200)
    pid = models.PositiveIntegerField()
    slots = models.PositiveIntegerField()
    started_at = models.DateTimeField(db_default=Now())
    beat_at = models.DateTimeField(db_default=Now())

    objects = SchedulerQuerySet.as_manager()

    class Meta:
        verbose_name = "scheduler"

    def __str__(self) -> str:
        return f"{self.host}:{self.pid}"


class CutCallQuerySet(models.QuerySet[Any]):
    def taking(self) -> Self:
        """They take a slot of their worker, and their key, now."""
        return self.filter(Q(until=None) | Q(until__gt=Now()))

    def by_worker(self) -> dict[str, int]:
        """How many slots they take of each worker."""
        return dict(self.taking().order_by().values_list("worker").annotate(n=Count("*")))


class CutCall(models.Model):
    """A call whose lease was taken away, or whose connection is gone, and that may still run.

    Until it has ended it takes a slot of its worker, and its key; its task waits for it. The table
    is empty nearly always. No constraint refers to the task: that may be gone.
    """

    task_id = models.CharField(max_length=200)
    attempt = models.IntegerField()
    scheduler = models.CharField(max_length=36)
    worker = models.CharField(max_length=200)
    group_id = models.CharField(max_length=200)
    key = models.CharField(max_length=200, blank=True, default="")
    since = models.DateTimeField(db_default=Now())
    # Until when it takes them. Null: until its scheduler says that it has ended.
    until = models.DateTimeField(null=True)

    objects = CutCallQuerySet.as_manager()

    class Meta:
        constraints = [
            # Also finds what keeps a task from its next attempt.
            models.UniqueConstraint(
                fields=["task_id", "attempt", "scheduler"], name="crew_cutcall_once"
            )
        ]
        indexes = [
            # How many slots they take of a worker.
            models.Index(fields=["worker"], name="crew_cutcall_worker"),
            # What keeps a key.
            models.Index(fields=["group_id", "key"], name="crew_cutcall_key", condition=~Q(key="")),
            # The calls that a scheduler is to cut.
            models.Index(fields=["scheduler"], name="crew_cutcall_scheduler"),
        ]

    def __str__(self) -> str:
        return f"attempt {self.attempt} of {self.task_id}, given up"


class Chore(models.Model):
    """When what clears away of one kind (`prune`, `retention`) last had nothing left to do.

    All schedulers share it: what one has done, no other does again at once.
    """

    name = models.CharField(primary_key=True, max_length=20)
    done_at = models.DateTimeField()

    def __str__(self) -> str:
        return self.name


class Change(models.Model):
    """What one transaction touched in one group: written with it, told to browsers after it."""

    group_id = models.CharField(max_length=200, blank=True, default="")
    created = models.JSONField(default=list)
    updated = models.JSONField(default=list)
    deleted = models.JSONField(default=list)
    # "update" or "delete" when the group itself changed; "reload" when too much in it did.
    group_event = models.CharField(max_length=10, blank=True, default="")
    # The workgroup whose hold changed: its tasks' due times moved, in every group.
    workgroup = models.CharField(max_length=200, blank=True, default="")
    at = models.DateTimeField(db_default=Now())

    class Meta:
        indexes = [
            # The pruning of rows that every browser has seen.
            models.Index(fields=["at"], name="crew_change_at"),
        ]

    def __str__(self) -> str:
        return f"change {self.pk} of {self.group_id or self.workgroup}"
