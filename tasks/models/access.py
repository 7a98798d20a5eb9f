"""Who may call the API by token, and what was answered to a call that may be repeated."""

from django.conf import settings
from django.db import models
from django.db.models.functions import Now


class Token(models.Model):
    """A right to call the API. Only a digest is stored: a stolen row opens nothing."""

    class Kind(models.TextChoices):
        API = "api"  # made by people for programs
        LOGIN = "login"  # given by /login; the only kind a stream's path takes
        TICKET = "ticket"  # opens one stream, once

    name = models.CharField(max_length=200)
    kind = models.CharField(max_length=6, choices=Kind.choices, default=Kind.API, editable=False)
    # The first characters of the secret, so that people can tell tokens apart.
    prefix = models.CharField(max_length=12, editable=False)
    # SHA-256 of the secret, hex. The secret has 256 random bits, so it needs neither salt nor cost.
    digest = models.CharField(max_length=64, unique=True, editable=False)
    # Words of `access.SCOPES`; of a login token none: its user's permissions count.
    scopes = models.JSONField(default=list, blank=True)
    # Ids of the only groups it may see; null for all.
    group_ids = models.JSONField(null=True, blank=True)
    # Whose permissions a login token has; a token dies with its user, and with the user's rights.
    user = models.ForeignKey(
        settings.AUTH_USER_MODEL, models.CASCADE, null=True, blank=True, related_name="crew_tokens"
    )
    # The user's session hash when a login token was given: it ends with the password, as a
    # session does.
    session_hash = models.CharField(max_length=64, default="", editable=False)
    # The key of the session that a ticket was asked for with, sealed with the ticket's secret: a
    # stream opened by it ends with that session.
    session = models.TextField(default="", db_default="", editable=False)
    # The token that a ticket was asked for with: a stream opened by it ends when that one does.
    parent = models.ForeignKey("self", models.CASCADE, null=True, editable=False)
    created_at = models.DateTimeField(db_default=Now(), editable=False)
    expires_at = models.DateTimeField(null=True, blank=True)
    # To the minute, so that a busy token does not write at every call.
    last_used_at = models.DateTimeField(null=True, editable=False)
    revoked_at = models.DateTimeField(null=True, editable=False)

    class Meta:
        verbose_name = "token"
        indexes = [
            # The pruning of login tokens and tickets that expired.
            models.Index(fields=["expires_at"], name="crew_token_expires"),
        ]

    def __str__(self) -> str:
        return f"{self.name} ({self.prefix}…)"


class OperatorPassword(models.Model):
    """The password of the settings that the operator's account was given last, as a slow hash."""

    username = models.CharField(max_length=200, primary_key=True)
    hash = models.CharField(max_length=200)

    def __str__(self) -> str:
        return self.username


class RepeatableCall(models.Model):
    """What was answered to a call with an Idempotency-Key, kept for a day.

    Written in the transaction of the call itself: it is there if, and only if, the work was done.
    """

    # Who called (see `Access.caller`) and the key: another caller's same key is another call.
    caller = models.CharField(max_length=80)
    key = models.CharField(max_length=200)
    # SHA-256 of method, path and body, hex.
    fingerprint = models.CharField(max_length=64)
    status = models.IntegerField(null=True)
    body = models.JSONField(null=True)
    at = models.DateTimeField(db_default=Now())

    class Meta:
        verbose_name = "repeatable call"
        constraints = [
            models.UniqueConstraint(fields=["caller", "key"], name="crew_call_once"),
        ]
        indexes = [
            # The pruning of what is older than a day.
            models.Index(fields=["at"], name="crew_call_at"),
        ]

    def __str__(self) -> str:
        return f"{self.key} by {self.caller}"
