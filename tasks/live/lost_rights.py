"""Tells the streams when somebody may have lost a right: by a logout, a password, a role.

What changes rows past Django's signals is found by the streams themselves, within a minute.
"""

from collections.abc import Iterable
from typing import Any

from django.contrib.auth import get_user_model
from django.contrib.auth.models import Group
from django.contrib.auth.signals import user_logged_out
from django.db.models.signals import m2m_changed, post_delete, post_save

from ..access import tokens
from ..models import Token
from ..store import changes

_NO_RIGHTS = frozenset({"last_login"})  # fields that a login writes


def connect() -> None:
    """Once, when the apps are ready."""
    user = get_user_model()
    user_logged_out.connect(_logged_out, dispatch_uid="crew")
    post_save.connect(_user_saved, sender=user, dispatch_uid="crew")
    post_delete.connect(_user_deleted, sender=user, dispatch_uid="crew")
    post_delete.connect(_token_deleted, sender=Token, dispatch_uid="crew")
    tokens.revoked.connect(_token_revoked, dispatch_uid="crew")
    for of_user in ("groups", "user_permissions"):
        if field := getattr(user, of_user, None):
            m2m_changed.connect(_rights_changed, sender=field.through, dispatch_uid="crew")
    m2m_changed.connect(_rights_changed, sender=Group.permissions.through, dispatch_uid="crew")


def _logged_out(user: Any = None, **_: Any) -> None:
    if user is not None:
        changes.rights_lost([f"user:{user.pk}"])


def _user_saved(
    instance: Any,
    created: bool,
    raw: bool,
    update_fields: Iterable[str] | None,
    **_: Any,
) -> None:
    if created or raw or (update_fields is not None and _NO_RIGHTS.issuperset(update_fields)):
        return
    changes.rights_lost([f"user:{instance.pk}"])


def _user_deleted(instance: Any, **_: Any) -> None:
    changes.rights_lost([f"user:{instance.pk}"])


def _token_deleted(instance: Token, **_: Any) -> None:
    changes.rights_lost([f"token:{instance.pk}"])


def _token_revoked(pk: int, **_: Any) -> None:
    changes.rights_lost([f"token:{pk}"])


def _rights_changed(action: str, **_: Any) -> None:
    """Of a person, or of a role and all who have it."""
    if action in ("post_remove", "post_clear"):
        changes.rights_lost([""])
