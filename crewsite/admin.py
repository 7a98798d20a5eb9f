"""The admin of the shipped site: its name, and people and roles on the theme's own classes."""

from django.apps import apps
from django.conf import settings
from django.contrib import admin
from django.contrib.auth.admin import GroupAdmin, UserAdmin
from django.contrib.auth.models import Group, User

from tasks.admin.base import ModelAdmin

from .people import People, RoleFilter, Roles

admin.site.site_header = admin.site.site_title = "Crew"
admin.site.index_title = "Home"
apps.get_app_config("auth").verbose_name = "Access"
# Groups are those of tasks. What Django calls so are roles, in its own words for its pages.
Group._meta.verbose_name, Group._meta.verbose_name_plural = "role", "roles"
admin.site.site_url = None  # there is no other site to go back to

admin.site.unregister(User)
admin.site.unregister(Group)


@admin.register(User)
class PersonAdmin(People, UserAdmin, ModelAdmin):  # type: ignore[type-arg]
    list_filter = ("is_staff", "is_superuser", "is_active", ("groups", RoleFilter))

    if "unfold" in settings.INSTALLED_APPS:
        from unfold import forms as _forms

        form = _forms.UserChangeForm
        add_form = _forms.UserCreationForm
        change_password_form = _forms.AdminPasswordChangeForm


@admin.register(Group)
class RoleAdmin(Roles, GroupAdmin, ModelAdmin):  # type: ignore[misc]
    pass
