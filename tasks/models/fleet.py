"""Those who do the work and those who hand it out: workers, workgroups, schedulers, changes."""

from datetime import timedelta
from typing import Any, Self

from django.db import models
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
