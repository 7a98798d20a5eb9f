"""What people did, and answers to what they deleted: the record that stays when that is gone."""

from django.conf import settings
from django.db import models
from django.db.models.functions import Now

VERBS = (
    "cancel",
    "complete",
    "create",
    "delete",
    "denied",
    "edit",
    "hold",
    "late",
    "limit",
    "login",
    "login failed",
    "logout",
    "open",
    "pause",
    "repair",
    "reset",
    "resume",
    "retry",
    "revoke",
)


class AuditEntry(models.Model):
    """One act of somebody. Written by `audit.py` alone, in the transaction of the act itself."""

    class Kind(models.TextChoices):
        """What it was done to."""

        GROUP = "group"
        TASK = "task"
        WORKER = "worker"
        WORKGROUP = "workgroup"
        TOKEN = "token"  # noqa: S105
        USER = "user"

    at = models.DateTimeField(db_default=Now())
    # In words, as it was then: `user:ann`, `token:nightly (crew_Ab12…)`, `anyone`.
    who = models.CharField(max_length=255)
    user = models.ForeignKey(
        settings.AUTH_USER_MODEL, models.SET_NULL, null=True, related_name="crew_audit_entries"
    )
    # Of the client; "" for a command of the machine itself.
    address = models.CharField(max_length=45, default="")
    verb = models.CharField(max_length=20, choices=[(verb, verb) for verb in VERBS])
    kind = models.CharField(max_length=10, choices=Kind.choices, default="")
    # Id or name; "" when it was done to several tasks.
    target = models.CharField(max_length=255, default="")
    # No foreign key: the entries of a deleted group stay.
    group_id = models.CharField(max_length=200, default="")
    # How many it was done to.
    count = models.PositiveIntegerField(default=1)
    # Ids of several tasks, each between line breaks so that one can be looked for; "" for more
    # than `audit.LISTED`.
    ids = models.TextField(default="")
    # What was asked: attempts, a filter, names of fields. Never a payload, never a secret.
    detail = models.JSONField(default=dict)
    # It came in with an import: what it says is the word of the file.
    is_imported = models.BooleanField(default=False, db_default=False)
    # The number of the `AuditSeal` that it is under; None = not sealed yet.
    seal = models.BigIntegerField(null=True, editable=False)

    class Meta:
        verbose_name = "audit entry"
        verbose_name_plural = "audit entries"
        # Nobody adds, changes or deletes one.
        default_permissions = ("view",)
        indexes = [
            # The history of a group, newest first; of a task it is looked through.
            models.Index(fields=["group_id", "-id"], name="crew_audit_group"),
            # All that was done to one task, worker, workgroup or token.
            models.Index(fields=["target", "-id"], name="crew_audit_target"),
            # The pruning of what is old, and the dates to choose from.
            models.Index(fields=["at"], name="crew_audit_at"),
            # What is under a seal, and what under none.
            models.Index(fields=["seal", "id"], name="crew_audit_seal"),
        ]

    def __str__(self) -> str:
        return f"{self.verb} by {self.who}"


class AuditSeal(models.Model):
    """Entries that were sealed together: a link of a chain. Written by `upkeep/seals.py`."""

    number = models.BigIntegerField(primary_key=True)
    at = models.DateTimeField(db_default=Now())
    # Of the seal before; "" for the first.
    previous = models.CharField(max_length=64)
    digest = models.CharField(max_length=64)
    count = models.PositiveIntegerField()
    newest_at = models.DateTimeField()
    # Its entries are gone by their age, and all seals before it: the chain begins behind it.
    is_pruned = models.BooleanField(default=False, db_default=False)

    class Meta:
        default_permissions = ()

    def __str__(self) -> str:
        return f"seal {self.number}"
