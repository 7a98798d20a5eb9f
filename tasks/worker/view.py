"""A worker as a Django view. Django is only imported when a view is made."""

import inspect
import logging
from collections.abc import Callable, Iterable
from functools import wraps
from typing import TYPE_CHECKING, Any

from .answer import Answer, failure, output
from .call import BadCall, Call, Proof, Unauthenticated, proven_call

if TYPE_CHECKING:
    from django.http import HttpRequest, HttpResponse

logger = logging.getLogger("crew.worker.view")

Worker = Callable[[Call], Any]
View = Callable[["HttpRequest"], Any]


def crew_worker(
    *, secrets: Iterable[str] | None = None, authorization: str | None = None
) -> Callable[[Worker], View]:
    """Make a view of a function that takes a `Call` and returns an `Answer`, or just the output.

    The view takes POST only and no CSRF token; it is async if the function is. What the function
    raises becomes a 500 with its text, so keep secrets out of exceptions. Raises ValueError at
    once for a secret that is none, and for `secrets` or an `authorization` that are empty.
    """
    proof = Proof.of(secrets, authorization)

    def read(request: "HttpRequest") -> Call | Answer:
        from django.core.exceptions import RequestDataTooBig

        try:
            return proven_call(request.body, request.headers, proof)
        except (BadCall, Unauthenticated) as error:
            return Answer(error.status, {"error": str(error)})
        except RequestDataTooBig:
            return Answer(413, {"error": "the call is too large"})

    def decorate(function: Worker) -> View:
        from django.views.decorators.csrf import csrf_exempt
        from django.views.decorators.http import require_POST

        @wraps(function)
        def view(request: "HttpRequest") -> "HttpResponse":
            call = read(request)
            try:
                result = function(call) if isinstance(call, Call) else call
            except Exception as error:  # noqa: BLE001  whatever it is, Crew must get to know it
                result = _raised(call, error)
            return _respond(result)

        @wraps(function)
        async def async_view(request: "HttpRequest") -> "HttpResponse":
            call = read(request)
            try:
                result = await function(call) if isinstance(call, Call) else call
            except Exception as error:  # noqa: BLE001  whatever it is, Crew must get to know it
                result = _raised(call, error)
            return _respond(result)

        is_async = inspect.iscoroutinefunction(function)
        return csrf_exempt(require_POST(async_view if is_async else view))

    return decorate


def _raised(call: Call | Answer, error: Exception) -> Answer:
    logger.exception("Task %a failed", getattr(call, "task_id", ""))
    return failure(f"{type(error).__name__}: {error}")


def _respond(result: Any) -> "HttpResponse":
    from django.http import HttpResponse

    answer = result if isinstance(result, Answer) else output(result)
    try:
        body = answer.to_bytes()
    except (TypeError, ValueError, RecursionError) as error:
        answer = failure(f"the worker's answer is not JSON: {error}")
        body = answer.to_bytes()
    return HttpResponse(
        body, status=answer.status, content_type="application/json", headers=dict(answer.headers)
    )
