"""How the shipped site looks in django-unfold: its name, its colours, its sidebar."""

from collections.abc import Callable
from typing import Any

from django.http import HttpRequest
from django.templatetags.static import static
from django.urls import reverse_lazy


def _file(name: str) -> Callable[[HttpRequest], str]:
    return lambda request: static(f"site/{name}")


def _list(title: str, icon: str, model: str) -> dict[str, Any]:
    """A line of the sidebar, for those who may look at such rows."""
    app, name = model.split(".")
    return {
        "title": title,
        "icon": icon,
        "link": reverse_lazy(f"admin:{app}_{name}_changelist"),
        "permission": lambda request: request.user.has_perm(f"{app}.view_{name}"),
    }


def _link(title: str, icon: str, name: str) -> dict[str, Any]:
    return {"title": title, "icon": icon, "link": reverse_lazy(name)}


LOOK = {
    "SITE_TITLE": "Crew",
    "SITE_HEADER": "Crew",
    "SITE_URL": None,  # there is no other site to go back to
    "SITE_ICON": _file("crew.svg"),
    "SITE_FAVICONS": [{"rel": "icon", "type": "image/svg+xml", "href": _file("crew.svg")}],
    "SHOW_VIEW_ON_SITE": False,
    "STYLES": [_file("theme.css")],
    "SCRIPTS": [_file("unfold.js")],
    # None: unfold would write them as an inline <style>. Ours are in theme.css. (A dict would be
    # merged with unfold's own.)
    "COLORS": lambda request: {},
    "SIDEBAR": {
        "navigation": [
            {"items": [_link("Home", "dashboard", "admin:index")]},
            {
                "title": "Work",
                "separator": True,
                "items": [
                    _list("Groups", "account_tree", "crew.taskgroup"),
                    _list("Tasks", "task_alt", "crew.task"),
                    _list("Attempts", "history", "crew.attempt"),
                ],
            },
            {
                "title": "Fleet",
                "separator": True,
                "items": [
                    _list("Workers", "webhook", "crew.worker"),
                    _list("Workgroups", "hourglass_top", "crew.workgroup"),
                    _list("Schedulers", "schedule", "crew.schedulerprocess"),
                ],
            },
            {
                "title": "Access",
                "separator": True,
                "items": [
                    _list("Tokens", "key", "crew.token"),
                    _list("Users", "person", "auth.user"),
                    _list("Roles", "badge", "auth.group"),
                    _list("Audit entries", "fact_check", "crew.auditentry"),
                    _link("API", "api", "crew:docs"),
                ],
            },
        ]
    },
}
