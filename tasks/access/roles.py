"""The roles of people, as groups of Django's: viewer, operator, admin. `manage.py crewroles`.

A role is a bundle of model permissions and nothing else: the API, the admin and the streams ask
for permissions, whoever gives them.
"""

from collections.abc import Iterable

from django.contrib.auth.models import Group, Permission
from django.db import transaction

from ..errors import ConflictError
from ..models import Task

VIEWER = "Crew viewer"
OPERATOR = "Crew operator"
ADMIN = "Crew admin"

_SHOWN = ("taskgroup", "task", "attempt", "worker", "workgroup", "schedulerprocess", "auditentry")
_WORKED_ON = ("taskgroup", "task", "worker", "workgroup")

# The code names of what each may do with our models.
_LOOK = frozenset(f"view_{name}" for name in _SHOWN)
_WORK = frozenset(f"{verb}_{name}" for verb in ("add", "change", "delete") for name in _WORKED_ON)
_TOKENS = frozenset(f"{verb}_token" for verb in ("view", "add", "change", "delete"))
ROLES: dict[str, frozenset[str]] = {
    VIEWER: _LOOK,
    OPERATOR: _LOOK | _WORK,
    ADMIN: _LOOK | _WORK | _TOKENS,
}


def ensure() -> list[str]:
    """Make the groups, each with the permissions on Crew that its role means, no more, no fewer.

    Its permissions on other apps, and its members, are not touched. Return the names of those
    that were made or changed. Raises ConflictError when the permissions are not there yet.
    """
    ours = Permission.objects.filter(content_type__app_label=Task._meta.app_label)
    with transaction.atomic():
        return [name for name, allowed in ROLES.items() if _give(name, ours, allowed)]


def _give(name: str, ours: "Iterable[Permission]", allowed: frozenset[str]) -> bool:
    by_name = {permission.codename: permission for permission in ours}
    if missing := allowed - by_name.keys():
        raise ConflictError(f"run migrate first: there is no permission {min(missing)}")
    group, is_new = Group.objects.get_or_create(name=name)
    has = set(group.permissions.filter(pk__in=[each.pk for each in by_name.values()]))
    wanted = {by_name[code] for code in allowed}
    group.permissions.remove(*has - wanted)
    group.permissions.add(*wanted - has)
    return is_new or has != wanted
