"""The words in which the routes are described: answers, errors, parameters, examples."""

from typing import Any

from drf_spectacular.utils import OpenApiExample, OpenApiParameter, OpenApiResponse, extend_schema

from ..query import FILTERS
from . import shapes

TEXT = "text/plain"
PROBLEM = "application/problem+json"
# What a page shows: its keys are described in the modules of `insight/` (`graph/picture.py`,
# `graph/summary.py`, `timeline.py`, `overview.py`, `fleet/now.py`, `fleet/detail.py`).
PICTURE = {"type": "object", "additionalProperties": True}
JSON = "application/json"
NDJSON = "application/x-ndjson"
WORDS = {
    400: "What was sent cannot be right; the text says why.",
    401: "No token, or one that opens nothing (any more).",
    403: "The token lacks the scope, or is for other groups.",
    404: "What the path names is not there, or not for the caller.",
    405: "Not a method of the path; or the name in it can be none.",
    412: "It was changed since it had the ETag of `If-Match`.",
    409: "It is there, and in the way: an id in use, a task that executes; or the database "
    "refuses what is to be written.",
    413: "The body is over its limit.",
    415: "A media type, charset or coding that is not read.",
    422: "The Idempotency-Key was used for another call.",
    429: "Too many tries; Retry-After says when to come back.",
    503: "The database is busy; Retry-After says when to come back.",
}
EXAMPLE_GROUP = {
    "id": "nightly-2026-11-24",
    "name": "Nightly import",
    "createdAt": "2026-11-24T02:00:00.000Z",
    "isPaused": False,
}
EXAMPLE_TASK = {
    "id": "fetch-17",
    "taskGroupId": "nightly-2026-11-24",
    "name": "Fetch page 17",
    "worker": "fetch-page",
    "workgroup": "shop-api",
    "key": "",
    "remainingAttempts": 4,
    "isPaused": False,
    "isComplete": True,
    "runAfter": "2026-11-24T02:00:00.000Z",
    "isSeed": False,
    "errorDelayInSeconds": 60,
    "input": {"page": 17},
    "output": {"rows": 200},
    "errors": [],
    "createdAt": "2026-11-24T02:00:00.000Z",
    "parentIds": ["login"],
    "busyExecuting": False,
    "priority": 0,
    "state": "complete",
}
NEW_TASKS = [
    {"id": "login", "worker": "login", "input": {"shop": 4}},
    {"id": "fetch-17", "worker": "fetch-page", "input": {"page": 17}, "parentIds": ["login"]},
]


class Parameter(OpenApiParameter):
    def __init__(self, name: str, kind: Any, words: str, **options: Any) -> None:
        super().__init__(name, kind, description=words, **options)


AFTER = Parameter(
    "after",
    {"type": "string", "maxLength": 300},
    "Instead of `page`: empty for the first part, then the `next` of the part before. What comes "
    "or goes meanwhile shifts nothing.",
)
PAGE = [
    Parameter("page", int, "Counts from 1."),
    Parameter("pageSize", int, "Rows a page; 0 on page 1 means all, up to a limit."),
    AFTER,
]
OUR_PAGES = [
    Parameter("page", {"type": "integer", "minimum": 1, "maximum": 10**9}, "Counts from 1."),
    Parameter("pageSize", {"type": "integer", "minimum": 1, "maximum": 500}, "Rows a page."),
]
OUR_LIST = [*OUR_PAGES, AFTER]
LABEL = {"type": "string", "maxLength": 200}
SEARCH = Parameter("search", LABEL, "Part of a name, whatever its case.")
STATE = {
    "type": "string",
    "pattern": f"^({'|'.join(shapes.STATES)})(,({'|'.join(shapes.STATES)}))*$",
}
FILTER = [
    SEARCH,
    Parameter("q", LABEL, "Part of a name or of an id, whatever its case."),
    Parameter("skipCompleted", bool, "Only those that are not complete."),
    Parameter("state", STATE, f"Some of {', '.join(shapes.STATES)}, comma separated."),
    Parameter("seeds", bool, "Only seeds."),
    *(Parameter(name, LABEL, f"Exactly this {name}.") for name in ("worker", "workgroup", "key")),
]
DRY_RUN = Parameter("dryRun", bool, "Do and check everything, then take it back.")
ONCE = Parameter(
    "Idempotency-Key",
    {"type": "string", "pattern": "^[!-~]{1,200}$"},
    "Any text of the client's. The same call with the same key is done once in a day; the "
    "repeated answer carries `Idempotency-Replayed: true`.",
    location=OpenApiParameter.HEADER,
)
IF_NONE_MATCH = Parameter(
    "If-None-Match", str, "An ETag that was given before.", location=OpenApiParameter.HEADER
)
IF_MATCH = Parameter(
    "If-Match",
    str,
    "An ETag that was given before: what is not that any more is left as it is (412).",
    location=OpenApiParameter.HEADER,
)
IGNORED = Parameter(
    "X-Crew-Ignored",
    str,
    "Names of parameters and fields that were sent and not understood: they had no effect.",
    location=OpenApiParameter.HEADER,
    response=[200],
)
WARNING = Parameter(
    "X-Crew-Warning",
    str,
    "What may be a mistake about the keys of the tasks created: several workers of one key, or a "
    "task and a descendant of it with one key.",
    location=OpenApiParameter.HEADER,
    response=[200],
)
CHILDREN = Parameter(
    "children",
    {"type": "string", "enum": ["cascade", "detach", "refuse"], "default": "cascade"},
    "`cascade` deletes descendants left without any parent, `detach` cuts children off, "
    "`refuse` answers 409 if there are any.",
)
assert {parameter.name for parameter in FILTER} == set(FILTERS)  # noqa: S101


def answers(
    shape: Any, *statuses: int, example: Any = None, is_v1: bool = True, extra: Any = None
) -> dict[Any, Any]:
    """The answers of an operation: 200 with this shape, and its errors as the route tells them."""
    examples = [OpenApiExample("example", example, response_only=True)] if example else []
    responses: dict[Any, Any] = {
        (200, JSON): OpenApiResponse(shape, description="Done.", examples=examples)
    }
    for status in sorted({401, 403, 405, 503, *statuses}):
        if status in (401, 405):
            responses[(status, JSON)] = OpenApiResponse(shapes.Message, description=WORDS[status])
        elif is_v1:
            responses[(status, TEXT)] = OpenApiResponse(str, description=WORDS[status])
        else:
            responses[(status, PROBLEM)] = OpenApiResponse(
                shapes.Problem, description=WORDS[status]
            )
    return responses | (extra or {})


def operation(id_: str, summary: str, response: dict[Any, Any], **options: Any) -> Any:
    options.setdefault("request", None)
    body = options.pop("body", None)
    if (403, TEXT) in response:
        options["parameters"] = [*options.get("parameters", ()), IGNORED]
    if body is not None:
        options["examples"] = [OpenApiExample("example", body, request_only=True)]
    return extend_schema(operation_id=id_, summary=summary, responses=response, **options)


NOT_MODIFIED = {304: OpenApiResponse(description="Not changed since that ETag.")}
BODY = (400, 413, 415)
OURS = {"is_v1": False}
