"""The URLs of the Crew site."""

from django.conf import settings
from django.contrib import admin
from django.http import HttpRequest, HttpResponse
from django.urls import include, path
from django.views.decorators.http import require_safe
from django.views.generic import RedirectView


@require_safe
def healthz(request: HttpRequest) -> HttpResponse:
    """Says that this process serves requests; touches no database."""
    return HttpResponse("Healthy!", content_type="text/plain; charset=utf-8")


urlpatterns = [
    path("", RedirectView.as_view(pattern_name="admin:index")),
    path("admin/", admin.site.urls),
    path("healthz", healthz, name="healthz"),
]
if settings.DEBUG:
    # Anyone may call the demo workers, and each call may wait a minute: not for production.
    urlpatterns.append(path("demo/", include("workers_demo.urls")))
