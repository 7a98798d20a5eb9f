"""The demo workers as Django views: a call is read, waited out and answered."""

import asyncio

from django.core.exceptions import RequestDataTooBig
from django.http import HttpRequest, JsonResponse
from django.utils import timezone
from django.views.decorators.csrf import csrf_exempt

from . import workers


# Async, so that a call that waits holds no thread of the server.
@csrf_exempt
async def worker(request: HttpRequest, name: str) -> JsonResponse:
    if request.method != "POST":
        return JsonResponse(
            {"message": "Method Not Allowed"}, status=405, headers={"Allow": "POST"}
        )
    try:
        call = workers.read_call(request.body)
    except RequestDataTooBig:
        return JsonResponse({"error": "the call is too large"}, status=413)

    await asyncio.sleep(workers.wait(name, call))
    answer = workers.answer(name, call, now=timezone.now())
    return JsonResponse(answer.body, status=answer.status)
