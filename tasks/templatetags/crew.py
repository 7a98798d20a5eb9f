"""What a live page of the admin tells its scripts: where the API is, and what the person may."""

from typing import Any

from django import template
from django.template.context import RequestContext
from django.urls import reverse

from ..access.callers import READ, SCOPES, of_user

register = template.Library()

PLACE = "__id__"  # what a script puts an id in for


@register.simple_tag(takes_context=True)
def crew_page(context: RequestContext) -> dict[str, Any]:
    """The data attributes of a live page; `may` is empty for who may not even look."""
    access = of_user(context["request"].user)
    return {
        "api": reverse("crew:groups").removesuffix("api/v1/task_groups"),
        "may": " ".join(scope for scope in SCOPES if access.may(scope)),
        "sees": access.may(READ),
        "group_url": reverse("admin:crew_taskgroup_change", args=[PLACE]),
        "groups_url": reverse("admin:crew_taskgroup_changelist"),
        "new_group_url": reverse("admin:crew_taskgroup_add"),
        "worker_url": reverse("admin:crew_worker_change", args=[PLACE]),
        "workgroup_url": reverse("admin:crew_workgroup_change", args=[PLACE]),
        "task_url": reverse("admin:crew_task_change", args=[PLACE]),
        "new_task_url": reverse("admin:crew_task_add"),
    }
