"""The URLs of the Crew site."""

import sys
from typing import NoReturn

from django.conf import settings
from django.contrib import admin
from django.http import Http404, HttpRequest, HttpResponse
from django.urls import include, path
from django.views.generic import RedirectView

from tasks.sql.patience import is_outage


def _no_page(request: HttpRequest, rest: str) -> NoReturn:
    raise Http404


urlpatterns = [
    path("", RedirectView.as_view(pattern_name="admin:index")),
    # Django looks for whatever row is named here; none of ours has another page to go to.
    path("admin/r/<path:rest>", _no_page),
    path("admin/", admin.site.urls),
    path("", include("tasks.urls")),
]
if settings.DEBUG:
    # Anyone may call the demo workers, and each call may wait a minute: not for production.
    urlpatterns.append(path("demo/", include("workers_demo.urls")))


def _plain(words: str, status: int) -> HttpResponse:
    return HttpResponse(words, content_type="text/plain; charset=UTF-8", status=status)


def handler400(request: HttpRequest, exception: Exception) -> HttpResponse:
    return _plain("400 bad request", 400)


def handler404(request: HttpRequest, exception: Exception) -> HttpResponse:
    """The old Crew's words; it knew no other method than GET where nothing is (contract 1.1)."""
    if request.method != "GET":
        return HttpResponse(
            '{"message":"Method Not Allowed"}\n',
            content_type="application/json; charset=UTF-8",
            status=405,
            headers={"Allow": "GET"},
        )
    return _plain("404 page not found", 404)


def handler500(request: HttpRequest) -> HttpResponse:
    error = sys.exc_info()[1]
    if error and is_outage(error):
        answer = _plain("503 the database is busy or away, try again", 503)
        answer["Retry-After"] = "1"
        return answer
    return _plain("500 internal error", 500)
