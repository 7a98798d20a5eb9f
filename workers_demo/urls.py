"""Where the demo workers are found: `worker-a` to `worker-d`."""

from django.urls import path

from . import views
from .workers import WAITS

app_name = "workers_demo"
urlpatterns = [path(name, views.worker, {"name": name}, name=name) for name in WAITS]
