"""The OpenAPI 3.1 description of every route, kept beside the routes and not in them.

One test holds it to the routes; another calls every route with what it allows and what not.
"""

from collections.abc import Sequence
from typing import Any

from django.urls import URLPattern
from drf_spectacular.generators import SchemaGenerator
from drf_spectacular.settings import patched_settings
from drf_spectacular.utils import extend_schema_view

from . import of_groups, of_history, of_insight, of_login, of_tasks, shapes

DESCRIBED = {
    **of_login.DESCRIBED,
    **of_groups.DESCRIBED,
    **of_tasks.DESCRIBED,
    **of_insight.DESCRIBED,
    **of_history.DESCRIBED,
}
TAGS = {
    "groups": "Task groups: graphs of tasks.",
    "tasks": "Tasks, one at a time.",
    "bulk": "Many tasks in one call.",
    "fleet": "Workers and workgroups, which all groups share.",
    "insight": "Why, what failed, the graph, the timeline.",
    "login": "Tokens.",
}
# The host project may describe an API of its own with other settings.
SETTINGS = {
    "OAS_VERSION": "3.1.0",
    "TITLE": "Crew",
    "VERSION": "1",
    "DESCRIPTION": "Graphs of tasks, each done by a webhook. The crew v1 routes answer errors as "
    "plain text, the others as problem details (RFC 9457).",
    "TAGS": [{"name": name, "description": words} for name, words in TAGS.items()],
    "APPEND_COMPONENTS": {
        "securitySchemes": {
            "token": {
                "type": "http",
                "scheme": "bearer",
                "description": "A token of `manage.py crewtoken`, of the admin, or of `/login`.",
            }
        }
    },
    "COMPONENT_SPLIT_REQUEST": False,
    "ENUM_GENERATE_CHOICE_DESCRIPTION": False,
    "PREPROCESSING_HOOKS": [],
    "POSTPROCESSING_HOOKS": [],
    "SCHEMA_PATH_PREFIX": "",
}

for view, methods in DESCRIBED.items():
    extend_schema_view(**methods)(view)


def describe(routes: Sequence[URLPattern], prefix: str) -> dict[str, Any]:
    """The OpenAPI document of these routes, which are mounted at `prefix` ("/", "/crew/")."""
    with patched_settings(SETTINGS):
        generator: Any = SchemaGenerator(patterns=list(routes))  # type: ignore[no-untyped-call]
        document: dict[str, Any] = generator.get_schema(public=True)
    for shape in shapes.STRICT:
        document["components"]["schemas"][shape.__name__]["additionalProperties"] = False
    return document | {"servers": [{"url": prefix.rstrip("/") or "/"}]}
