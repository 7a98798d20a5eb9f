"""The reference for single POSTs: one model, Django REST framework's own create, plain daphne.

    DATABASE_URL=postgres://... python -m benchmarks.plain PORT

No authentication, no middleware, no groups, parents, events or rules of ours: what the framework
costs by itself. Its table is `crew_plain`, made at the start.
"""

import sys

import django
from django.conf import settings
from environs import Env


def configure() -> None:
    database = Env().dj_db_url("DATABASE_URL")
    if "postgresql" in database["ENGINE"]:
        database["OPTIONS"] = {"pool": {"min_size": 1, "max_size": 20}}
    settings.configure(
        ALLOWED_HOSTS=["127.0.0.1"],
        DATABASES={"default": database},
        INSTALLED_APPS=["django.contrib.contenttypes", "django.contrib.auth", "rest_framework"],
        ROOT_URLCONF=__name__,
        SECRET_KEY="for a benchmark on this machine only",
        USE_TZ=True,
        REST_FRAMEWORK={
            "DEFAULT_AUTHENTICATION_CLASSES": [],
            "DEFAULT_RENDERER_CLASSES": ["rest_framework.renderers.JSONRenderer"],
        },
    )
    django.setup()


if not settings.configured:
    configure()

from django.db import connection, models  # noqa: E402
from django.urls import path  # noqa: E402
from django.utils import timezone  # noqa: E402
from rest_framework import generics, serializers  # noqa: E402


class Plain(models.Model):  # noqa: DJ008  nobody looks at its rows
    name = models.CharField(max_length=200, blank=True, default="")
    worker = models.CharField(max_length=200, blank=True, default="")
    workgroup = models.CharField(max_length=200, blank=True, default="")
    key = models.CharField(max_length=200, blank=True, default="")
    input = models.JSONField(null=True)
    output = models.JSONField(null=True)
    errors = models.JSONField(default=list)
    remaining_attempts = models.IntegerField(default=5)
    is_paused = models.BooleanField(default=False)
    is_complete = models.BooleanField(default=False)
    is_seed = models.BooleanField(default=False)
    error_delay = models.IntegerField(default=60)
    run_after = models.DateTimeField(default=timezone.now)
    created_at = models.DateTimeField(default=timezone.now)

    class Meta:
        app_label = "crew_plain"
        db_table = "crew_plain"


class PlainSerializer(serializers.ModelSerializer):
    class Meta:
        model = Plain
        fields = "__all__"


class Create(generics.CreateAPIView):
    queryset = Plain.objects.all()
    serializer_class = PlainSerializer


urlpatterns = [path("tasks", Create.as_view())]


def main() -> None:
    from daphne.server import Server
    from django.core.asgi import get_asgi_application

    with connection.schema_editor() as editor:
        editor.create_model(Plain)
    connection.close()
    endpoints = [f"tcp:port={sys.argv[1]}:interface=127.0.0.1"]
    Server(get_asgi_application(), endpoints=endpoints).run()


if __name__ == "__main__":
    main()
