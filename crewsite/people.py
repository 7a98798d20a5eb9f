"""Who may change whom: nobody makes more of a person than they are themselves.

The role of an admin may look after people. In Django's own admin that alone would let them become
superusers: by a tick, by a permission, or by giving a superuser a password of theirs.
"""

from typing import Any

from django.apps import apps
from django.contrib.admin import RelatedFieldListFilter
from django.contrib.auth.models import Group, Permission
from django.db import transaction
from django.db.models import Q
from django.http import HttpRequest

from tasks.access import roles
from tasks.admin.list_urls import ListedLookups
from tasks.admin.refused import RefusalsShown
from tasks.admin.watched import Watched
from tasks.audit import Kind

# What the admins of this site may do with people, beside what the role means anywhere.
PERMISSIONS = ("add_user", "change_user", "delete_user", "view_user", "view_group")


def ensure_roles(apps: Any = apps, **kwargs: Any) -> None:
    """After each migrate: the roles, and the people for the admins."""
    try:
        apps.get_model("auth", "Group")
    except LookupError:  # it was a migration back to before there were any
        return
    roles.ensure()
    people = Permission.objects.filter(content_type__app_label="auth", codename__in=PERMISSIONS)
    Group.objects.get(name=roles.ADMIN).permissions.add(*people)


class People(RefusalsShown, ListedLookups, Watched):
    """For the admin of users: who is no superuser changes only people who may not do more."""

    kind, audited = Kind.USER, ("create", "edit", "delete")

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return super().has_change_permission(request, obj) and _is_within(obj, request.user)

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return super().has_delete_permission(request, obj) and _is_within(obj, request.user)

    def user_change_password(self, request: HttpRequest, *args: Any, **kwargs: Any) -> Any:
        view = transaction.atomic(super().user_change_password)  # type: ignore[misc]
        return self.showing_refusals(request, view, request, *args, **kwargs)

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        fields = super().get_readonly_fields(request, obj)
        if request.user.is_superuser:
            return fields
        return (*fields, "is_superuser", "user_permissions")

    def formfield_for_manytomany(self, db_field: Any, request: HttpRequest, **kwargs: Any) -> Any:
        """Only roles are given that allow nothing which the giver may not."""
        if db_field.name == "groups":
            kwargs |= {"label": "Roles", "help_text": "They may do all that any of them allows."}
            if not request.user.is_superuser:
                beyond = Permission.objects.exclude(pk__in=_permissions(request.user))
                kwargs["queryset"] = Group.objects.exclude(permissions__in=beyond)
        field: Any = super().formfield_for_manytomany(db_field, request, **kwargs)
        if db_field.name == "groups":
            field.widget.verbose_name = "roles"
        return field


class RoleFilter(RelatedFieldListFilter):
    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.title = "role"


class Roles(RefusalsShown, ListedLookups, Watched):
    """For the admin of roles: what a role may do is for superusers to say."""

    def has_add_permission(self, request: HttpRequest) -> bool:
        return request.user.is_superuser

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return request.user.is_superuser

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return request.user.is_superuser


def _is_within(person: Any, other: Any) -> bool:
    """Whether a person may do nothing that the other may not; true of nobody in particular."""
    if person is None or other.is_superuser:
        return True
    # Looked up by rows: of a disabled person Django says that they may do nothing.
    return not person.is_superuser and _permissions(person) <= _permissions(other)


def _permissions(person: Any) -> set[int]:
    given = Q(user=person) | Q(group__user=person)
    return set(Permission.objects.filter(given).values_list("pk", flat=True))
