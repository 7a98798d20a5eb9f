"""A request has one thread, from the first middleware to the view."""

import asyncio
import threading

from asgiref.testing import ApplicationCommunicator
from django.http import HttpResponse
from django.test import override_settings
from django.urls import path

from tasks.serving.handler import application

seen = {}


class Noting:
    """Middleware of the common kind: Django could run it either way."""

    sync_capable = async_capable = True

    def __init__(self, get_response):
        self.get_response = get_response

    def __call__(self, request):
        seen["middleware"] = threading.get_ident()
        return self.get_response(request)


def view(request):
    seen["view"] = threading.get_ident()
    return HttpResponse("here")


async def async_view(request):
    return HttpResponse("there")


urlpatterns = [path("sync", view), path("async", async_view)]


async def _get(where):
    scope = {"type": "http", "method": "GET", "path": where, "headers": [], "query_string": b""}
    client = ApplicationCommunicator(application(), scope)
    await client.send_input({"type": "http.request"})
    start = await client.receive_output()
    body = await client.receive_output()
    await client.wait()
    return start["status"], body["body"]


@override_settings(ROOT_URLCONF=__name__, MIDDLEWARE=[f"{__name__}.Noting"], ALLOWED_HOSTS=["*"])
def test_middleware_and_view_share_a_thread_that_is_not_the_loops():
    assert asyncio.run(_get("/sync")) == (200, b"here")

    assert seen["middleware"] == seen["view"] != threading.get_ident()


@override_settings(ROOT_URLCONF=__name__, MIDDLEWARE=[f"{__name__}.Noting"], ALLOWED_HOSTS=["*"])
def test_a_hosts_asynchronous_view_works_as_well():
    assert asyncio.run(_get("/async")) == (200, b"there")
