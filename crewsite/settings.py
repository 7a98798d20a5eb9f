"""Settings of the Crew site: read from the environment, and from `.env`, once.

What an embedding project needs to set is listed in `tasks/conf.py`; a wrong value is named by
`tasks/checks/settings.py` when anything starts.
"""

import logging
import os
import sys
from datetime import timedelta
from pathlib import Path
from typing import Any

from tasks.conf import SETTINGS

from .environment import Environment
from .headers import POLICY
from .look import LOOK
from .variables import variables

BASE_DIR = Path(__file__).resolve().parent.parent

# Under pytest, or in a process that a test started.
TESTING = "pytest" in sys.modules or "PYTEST_VERSION" in os.environ

env = Environment()
if not TESTING:
    # What someone set for their own site must not change what the tests see.
    env.read_file(BASE_DIR / ".env")

# A development start (`DEBUG=1`) needs nothing else; a production start must name its own key.
DEBUG = env.switch("DEBUG", False)
SECRET_KEY = env.text("SECRET_KEY", "insecure-development-key" if DEBUG else "")
ALLOWED_HOSTS = env.words("ALLOWED_HOSTS", ["localhost", "127.0.0.1", "[::1]"] if DEBUG else [])
CSRF_TRUSTED_ORIGINS: list[str] = env.origins("CSRF_TRUSTED_ORIGINS")

# Where the web server listens, and where the demo workers are found. Everywhere is the old Crew's
# default, and what a container needs; a development server is for its own machine.
HOST = env.text("HOST", "127.0.0.1" if DEBUG else "0.0.0.0")  # noqa: S104
PORT = env.whole(
    "PORT", 8090, "a whole number from 0 to 65535", fits=lambda port: 0 <= port <= 65_535
)

# "plain" is Django's own admin.
THEMES = ("unfold", "plain")
THEME = env.text("CREW_THEME", "unfold", fits=THEMES.__contains__, wanted="unfold or plain")
UNFOLD = LOOK

INSTALLED_APPS = [
    "daphne",
    *(["unfold"] if THEME == "unfold" else []),
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "channels",
    "rest_framework",
    "drf_spectacular",
    "drf_spectacular_sidecar",
    "corsheaders",
    "axes",
    "tasks",
    "crewsite",
]

MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "crewsite.headers.HeadersMiddleware",
    # Before all that may answer by itself, so that such answers carry its headers too.
    "crewsite.cors.CrewCorsMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    # Last: it puts its own answer in place of a refused login's.
    "axes.middleware.AxesMiddleware",
]

ROOT_URLCONF = "crewsite.urls"
APPEND_SLASH = False  # the crew v1 API has no trailing slashes (contract 1.1)
WSGI_APPLICATION = "crewsite.wsgi.application"
ASGI_APPLICATION = "crewsite.asgi.application"
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [BASE_DIR / "templates"],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
                "crewsite.doors.banners",
            ],
        },
    },
]

# The default is a file beside the project: nothing to install, one scheduler at a time.
DATABASES = {"default": env.database("DATABASE_URL", f"sqlite:///{BASE_DIR / 'db.sqlite3'}")}
_database = DATABASES["default"]
DATABASE_POOLED = env.switch("DATABASE_POOLED", False)
if _database["ENGINE"] == "django.db.backends.sqlite3":
    _database["OPTIONS"] = {
        # Readers never wait for the writer, and a writer waits at BEGIN instead of failing in
        # the middle: with DEFERRED transactions "database is locked" comes by the thousand.
        "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL;",
        "transaction_mode": "IMMEDIATE",
        "timeout": 20,
    }
    _database["TEST"] = {
        "NAME": env.text("TEST_SQLITE_FILE", str(BASE_DIR / "var" / "test.sqlite3"))
    }
else:
    _database["CONN_HEALTH_CHECKS"] = True
    # Behind PgBouncer in transaction mode, where a session belongs to everybody.
    _database["DISABLE_SERVER_SIDE_CURSORS"] = DATABASE_POOLED
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

REDIS_URL = env.redis("REDIS_URL")
if REDIS_URL:
    CACHES = {"default": {"BACKEND": "django_redis.cache.RedisCache", "LOCATION": REDIS_URL}}
    CHANNEL_LAYERS = {
        "default": {
            # The pub/sub layer: the other one loses idle sockets with redis-py 8.
            "BACKEND": "channels_redis.pubsub.RedisPubSubChannelLayer",
            "CONFIG": {"hosts": [REDIS_URL]},
        }
    }
else:
    CACHES = {"default": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"}}
    CHANNEL_LAYERS = {"default": {"BACKEND": "channels.layers.InMemoryChannelLayer"}}

AUTHENTICATION_BACKENDS = [
    "axes.backends.AxesStandaloneBackend",
    "django.contrib.auth.backends.ModelBackend",
]
AUTH_PASSWORD_VALIDATORS: list[dict[str, Any]] = [
    {"NAME": f"django.contrib.auth.password_validation.{name}", "OPTIONS": options}
    for name, options in (
        ("UserAttributeSimilarityValidator", {}),
        ("MinimumLengthValidator", {"min_length": 12}),
        ("CommonPasswordValidator", {}),
        ("NumericPasswordValidator", {}),
    )
]
LOGIN_URL = "admin:login"
LOGIN_REDIRECT_URL = "admin:index"

# Who guesses passwords is locked out, at /login and at the admin's login alike; see lockout.py.
AXES_HANDLER = "crewsite.lockout.Handler"
AXES_FAILURE_LIMIT = 5
AXES_LOCKOUT_PARAMETERS = [["username", "ip_address"]]
AXES_COOLOFF_TIME = timedelta(minutes=15)
AXES_RESET_ON_SUCCESS = True
AXES_RESET_COOL_OFF_ON_FAILURE_DURING_LOCKOUT = False  # or the lock could be kept up forever
AXES_LOCKOUT_CALLABLE = "crewsite.lockout.locked_out"
AXES_CLIENT_IP_CALLABLE = "crewsite.lockout.guesser"
AXES_DISABLE_ACCESS_LOG = True  # our own log says who logged in; a row each would pile up
AXES_VERBOSE = False
AXES_ENABLE_ADMIN = False  # `axes_reset` unlocks; the rows say nothing more

LANGUAGE_CODE = "en-us"
TIME_ZONE = "UTC"
FORMAT_MODULE_PATH = ["crewsite.formats"]
USE_TZ = True
STATIC_URL = "static/"
STATIC_ROOT = BASE_DIR / "staticfiles"
STATICFILES_DIRS = [BASE_DIR / "static"]

FILE_UPLOAD_HANDLERS = ["tasks.serving.uploads.NoUploads"]
SESSION_ENGINE = "crewsite.sessions"
SESSION_COOKIE_HTTPONLY = True
SESSION_COOKIE_SAMESITE = "Lax"
# TLS=1 says that people reach the site by https: then nothing of it travels in the clear.
TLS = env.switch("TLS", False)
HSTS_SECONDS = env.whole(
    "HSTS_SECONDS",
    365 * 86_400,
    "seconds, at most ten years",
    fits=lambda seconds: 0 <= seconds <= 3650 * 86_400,
)
SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = SECURE_SSL_REDIRECT = TLS
if TLS:
    # The prefix makes browsers refuse such a cookie from a neighbour in the domain.
    SESSION_COOKIE_NAME = "__Host-sessionid"
    CSRF_COOKIE_NAME = "__Host-csrftoken"
    SECURE_HSTS_SECONDS = HSTS_SECONDS
    SECURE_REDIRECT_EXEMPT = [r"(^|/)healthz(/ready)?$"]  # probes come without TLS
# Whether other hosts of the domain speak TLS is not ours to promise.
SILENCED_SYSTEM_CHECKS = ["security.W005", "security.W021"]
SECURE_REFERRER_POLICY = "same-origin"
CONTENT_SECURITY_POLICY = {"DIRECTIVES": POLICY}

# Other sites' pages that may call the API from a browser, with a token; "*" = any. Cookies never
# go with such a call.
_origins: list[str] = env.origins("CORS_ORIGINS", also="*")
CORS_ALLOW_ALL_ORIGINS = "*" in _origins
CORS_ALLOWED_ORIGINS = [origin for origin in _origins if origin != "*"]
CORS_URLS_REGEX = r"^/(?:api/v1/|(?:login|logout|authcheck|healthz|healthz/ready)$)"
CORS_EXPOSE_HEADERS = ["ETag", "Idempotency-Replayed", "Retry-After", "X-Crew-Ignored"]

# Our views set everything themselves; a host project may have its own ideas.
REST_FRAMEWORK = {"DEFAULT_SCHEMA_CLASS": "drf_spectacular.openapi.AutoSchema"}
SPECTACULAR_SETTINGS = {
    "TITLE": "Crew",
    "DESCRIPTION": "Graphs of tasks, each done by a webhook.",
    "VERSION": "1",
    "OAS_VERSION": "3.1.0",
    "SERVE_INCLUDE_SCHEMA": False,
    "SWAGGER_UI_DIST": "SIDECAR",
    "SWAGGER_UI_FAVICON_HREF": "SIDECAR",
    "REDOC_DIST": "SIDECAR",
    # The schema has a test of its own; `check --deploy` is about the deployment.
    "ENABLE_DJANGO_DEPLOY_CHECK": False,
}

LEVELS = logging.getLevelNamesMapping()
LOG_LEVEL = env.text(
    "LOG_LEVEL",
    "INFO",
    fits=lambda level: level.upper() in LEVELS,
    wanted="debug, info, warning, error or critical",
).upper()
LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {
        "line": {
            "()": "tasks.redact.Formatter",
            "format": "%(asctime)s %(levelname)s %(name)s: %(message)s",
        }
    },
    "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "line"}},
    "loggers": {
        # Django's own handlers would write each line a second time, with its secrets.
        "django": {"handlers": [], "level": "INFO"},
        "django.server": {"handlers": [], "level": "INFO", "propagate": True},
        "axes": {"level": "ERROR"},  # our own log tells of logins
        "psycopg.pool": {"level": "ERROR"},  # a line for each try while the database is away
    },
    "root": {"handlers": ["stderr"], "level": LOG_LEVEL},
}

# --- Crew: every name, its kind, default and words are in tasks/conf.py ------------------------

# What the site knows better than the app. With DEBUG the demo workers of this very server are the
# default; a listener needs a session of its own, which a pooler does not give.
_better = {
    "CREW_WORKER_BASE_URL": f"http://127.0.0.1:{PORT}/demo/" if DEBUG else "",
    # The calls to them come from one address, as many as there are slots.
    "CREW_MAX_CONNECTIONS": 2_000 if DEBUG else 500,
    "CREW_NOTIFY": not _database.get("DISABLE_SERVER_SIDE_CURSORS", False),
}
_crew = variables(env, SETTINGS, _better)
globals().update(_crew)
if env.switch("CREW_NO_AUTH", False):
    CREW_AUTHENTICATION: list[str] = []
if _crew["CREW_TRUSTED_PROXIES"] > 0:
    SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https")

if TESTING:
    CREW_FAILPOINTS = env.text("CREW_FAILPOINTS")
if TESTING and DEBUG:
    PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
os.environ.setdefault("DJANGO_SETTINGS_MODULE", "crewsite.settings")

env.refuse_wrong()
