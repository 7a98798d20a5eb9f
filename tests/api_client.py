"""The API as a client sees it: requests as they are sent, answers as they come."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from django.apps import apps
from django.test import Client
from django.urls import include, path

JSON = "application/json; charset=UTF-8"
TEXT = "text/plain; charset=UTF-8"
PROBLEM = "application/problem+json"
NDJSON = "application/x-ndjson"

TASKS = "/api/v1/task_group/g/tasks"
TASK = "/api/v1/task_group/g/task/t"
GROUPS = "/api/v1/task_groups"
GROUP = "/api/v1/task_group/g"


class AtRoot:
    """A URLconf: the API and nothing else."""

    urlpatterns: ClassVar = [path("", include("tasks.urls"))]


class UnderPrefix:
    urlpatterns: ClassVar = [path("crew/", include("tasks.urls"))]


@dataclass(frozen=True)
class Said:
    status: int
    type: str
    body: bytes
    headers: Mapping[str, str]

    @property
    def text(self) -> str:
        return self.body.decode()

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def why(self) -> str:
        """The words of an error, in either form."""
        return self.json["detail"] if self.type == PROBLEM else self.text


class Api:
    """Calls with this token, if any. The body is sent as JSON, or as it is when it is bytes."""

    def __init__(self, token: str = "", prefix: str = "", client: Client | None = None) -> None:
        self.token = token
        self.prefix = prefix
        self.client = client or Client(raise_request_exception=False)

    def send(
        self,
        method: str,
        path: str,
        body: Any = b"",
        *,
        kind: str = "application/json",
        **headers: str,
    ) -> Said:
        if self.token:
            headers.setdefault("Authorization", f"Bearer {self.token}")
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        answer = self.client.generic(
            method,
            self.prefix + path,
            data,
            content_type=kind,
            headers={name.replace("_", "-"): value for name, value in headers.items()},
        )
        return Said(
            answer.status_code, answer.headers.get("Content-Type", ""), answer.content, answer
        )

    def get(self, path: str, **headers: str) -> Said:
        return self.send("GET", path, **headers)

    def post(self, path: str, body: Any = b"", **options: Any) -> Said:
        return self.send("POST", path, body, **options)

    def put(self, path: str, body: Any = b"", **options: Any) -> Said:
        return self.send("PUT", path, body, **options)

    def delete(self, path: str, **options: Any) -> Said:
        return self.send("DELETE", path, **options)


def everything_stored() -> dict[str, list[dict[str, Any]]]:
    """Every row of every table of ours."""
    return {
        model.__name__: list(model.objects.order_by("pk").values())
        for model in apps.get_app_config("crew").get_models()
    }


def row_counts() -> dict[str, int]:
    return {
        model.__name__: model.objects.count() for model in apps.get_app_config("crew").get_models()
    }
