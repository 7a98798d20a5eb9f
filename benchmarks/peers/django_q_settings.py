"""The settings of a Django project that has nothing but django-q2."""

import os

import dj_database_url

SECRET_KEY = "for a benchmark on this machine only, and long enough for it"
INSTALLED_APPS = ["django.contrib.contenttypes", "django_q"]
DATABASES = {"default": dj_database_url.parse(os.environ["BENCH_DATABASE"], conn_max_age=600)}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
USE_TZ = True
Q_CLUSTER = {
    "name": "bench",
    "workers": 2,  # one for each core, as is its default
    "bulk": 50,  # tasks taken from the broker at once
    "queue_limit": 500,
    "timeout": 60,
    "retry": 120,
    "max_attempts": 5,
    "log_level": "WARNING",
}
if os.environ.get("BENCH_REDIS"):
    Q_CLUSTER["redis"] = os.environ["BENCH_REDIS"]
else:
    Q_CLUSTER["orm"] = "default"
