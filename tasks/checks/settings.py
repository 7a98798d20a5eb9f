"""System checks: each wrong setting is named when anything starts, with a hint how to fix it."""

import ipaddress
import os
from collections.abc import Iterator, Sequence
from typing import Any
from urllib.parse import urlsplit

from django.apps import AppConfig
from django.conf import settings
from django.core.checks import CheckMessage, Tags, Warning, register
from django.core.exceptions import ImproperlyConfigured
from django.utils.module_loading import import_string

from .. import redact
from ..conf import SETTINGS, Setting, conf
from ..delivery.calls import make_deliverer, tls_context
from ..delivery.destinations import Destinations
from ..engine import table_version
from ..rules import spelling
from ..rules.names import check_base
from ..rules.scrubbing import SHORT
from ..rules.signing import signing_key
from . import logins
from .findings import fault, tried

_WANTED = {str: "text", list: "a list of texts", bool: "True or False"}


@register(Tags.security)
def check_settings(app_configs: Sequence[AppConfig] | None, **kwargs: Any) -> list[CheckMessage]:
    """All checks of settings that need no database: crew.E001 to crew.E017, crew.E019, crew.E020,
    crew.W002, crew.W004 and crew.W005."""
    if wrong := list(_kinds()):
        return wrong  # the other checks read texts and lists
    return [
        *logins.default_credentials(getattr(settings, "HOST", "127.0.0.1")),
        *logins.fixed_token(),
        *logins.weak_password(),
        *logins.authentication(),
        *logins.login(),
        *logins.stream_origins(),
        *_secret_key(),
        *_hosts(),
        *_worker_base(),
        *_authorization(),
        *_short_credentials(),
        *_numbers(),
        *_dotted_paths(),
        *_failpoints(),
        *_networks(),
        *_secrets(),
        *_ca_file(),
        *_kept_connections(),
        *_slips(),
    ]


def _check_base(base: str) -> None:
    host = urlsplit(check_base(base)).hostname or ""
    Destinations.of(base, ()).check_literal(host)


@register(Tags.security, deploy=True)
def check_deployment(app_configs: Sequence[AppConfig] | None, **kwargs: Any) -> list[CheckMessage]:
    """crew.W001 and crew.W003: only asked by `check --deploy`, as each may be right somewhere."""
    found: list[CheckMessage] = []
    if conf.CREW_WORKER_BASE_URL.startswith("http://"):
        text = (
            "CREW_WORKER_BASE_URL is http: inputs, outputs and the Authorization header travel "
            "in the clear."
        )
        hint = "Use https unless the workers are reached over a network that is yours alone."
        found.append(Warning(text, hint=hint, id="crew.W001"))
    if settings.SECURE_SSL_REDIRECT and not conf.CREW_TRUSTED_PROXIES:
        text = (
            "TLS is on and CREW_TRUSTED_PROXIES is 0: behind a proxy all clients look like one, "
            "and every request like http."
        )
        hint = (
            "Set CREW_TRUSTED_PROXIES to the number of proxies in front, and let the first set "
            "X-Forwarded-Proto."
        )
        found.append(Warning(text, hint=hint, id="crew.W003"))
    return found


@register()
def check_encoding(app_configs: Sequence[AppConfig] | None, **kwargs: Any) -> list[CheckMessage]:
    """crew.E018, where there is a database to ask."""
    encoding = table_version.encoding()
    if encoding in ("", "UTF8"):
        return []
    text = f"The database is in {encoding}: what workers answer in other letters cannot be stored."
    hint = "Recreate it: createdb --encoding=UTF8 --template=template0, then crewexport/crewimport."
    return [fault(18, text, hint)]


def _secret_key() -> Iterator[CheckMessage]:
    try:
        key = settings.SECRET_KEY
    except ImproperlyConfigured:  # what Django says of an empty one
        key = ""
    is_weak = len(key) < 32 or len(set(key)) < 8 or key.startswith(("insecure", "django-insecure"))
    if is_weak and not settings.DEBUG:
        yield fault(
            2,
            "SECRET_KEY is missing, short, or one that everybody knows.",
            "Set SECRET_KEY to at least 32 random characters, or DEBUG=1 on your own machine.",
        )


def _hosts() -> Iterator[CheckMessage]:
    if not settings.DEBUG and any("*" in host for host in settings.ALLOWED_HOSTS):
        yield fault(
            20,
            "ALLOWED_HOSTS holds *: a page of any name that leads here is taken for one of ours.",
            "Name the hosts that people and programs call, with commas between them; a name that "
            "begins with a dot stands for all names below it.",
        )


def _worker_base() -> Iterator[CheckMessage]:
    base = conf.CREW_WORKER_BASE_URL
    if not base:
        yield fault(
            3,
            "CREW_WORKER_BASE_URL is not set: no task can be delivered.",
            "Set it to the URL before your workers' names, such as https://workers.example/run/ .",
        )
        return
    yield from tried(3, "CREW_WORKER_BASE_URL", lambda: _check_base(base), "https://host/path/")


def _authorization() -> Iterator[CheckMessage]:
    header = conf.CREW_WORKER_AUTHORIZATION_HEADER
    if header is not None and not (header.isascii() and header.isprintable()):
        yield fault(
            4,
            "CREW_WORKER_AUTHORIZATION_HEADER holds a line break or a character no header takes.",
            "It is sent verbatim, for example: Bearer <token>",
        )


def _short_credentials() -> Iterator[CheckMessage]:
    header = conf.CREW_WORKER_AUTHORIZATION_HEADER or ""
    if header.isascii() and header.isprintable() and redact.short_credentials():
        yield Warning(
            f"CREW_WORKER_AUTHORIZATION_HEADER holds fewer than {SHORT} characters of secret: it "
            "is taken out of an answer only where a worker repeats the whole header.",
            hint="python -c 'import secrets; print(secrets.token_urlsafe(32))' makes a longer one.",
            id="crew.W006",
        )


def _kinds() -> Iterator[CheckMessage]:
    """Texts, lists and switches that are none. What stands there may be a secret: not shown."""
    for name, setting in SETTINGS.items():
        given = getattr(settings, name, setting.default)  # `conf` gives no list that is none
        if setting.kind in _WANTED and not setting.allows(given):
            yield fault(5, f"{name} must be {_WANTED[setting.kind]}.", _hint(setting))


def _numbers() -> Iterator[CheckMessage]:
    for name, setting in SETTINGS.items():
        value = getattr(conf, name)
        if setting.kind not in _WANTED and not setting.allows(value):
            yield fault(5, f"{name} must be {setting.wanted()}, not {value!r}.", _hint(setting))


def _hint(setting: Setting) -> str:
    words = setting.words.replace("`", "")
    return f"It is for: {words}."


def _dotted_paths() -> Iterator[CheckMessage]:
    yield from tried(
        6,
        "CREW_DELIVERER",
        lambda: make_deliverer(conf.CREW_DELIVERER),
        '"asyncio", "requests" or the dotted path of a Deliverer',
    )
    if conf.CREW_THROTTLER:
        yield from tried(
            7,
            "CREW_THROTTLER",
            lambda: import_string(conf.CREW_THROTTLER),
            "the dotted path of a callable that gives a Throttler",
        )


def _failpoints() -> Iterator[CheckMessage]:
    if conf.CREW_FAILPOINTS and not settings.DEBUG:
        hint = "Unset it: with it a scheduler kills itself."
        yield fault(17, "CREW_FAILPOINTS is for tests, and this is no DEBUG.", hint)


def _networks() -> Iterator[CheckMessage]:
    for net in conf.CREW_WORKER_ALLOW_NETS:
        yield from tried(
            8,
            "CREW_WORKER_ALLOW_NETS",
            lambda net=net: ipaddress.ip_network(net),  # type: ignore[misc]
            "networks such as 10.1.0.0/16, comma separated",
        )


def _secrets() -> Iterator[CheckMessage]:
    for secret in conf.CREW_SIGNING_SECRETS:
        try:
            signing_key(secret)
        except ValueError:  # its text may hold the secret
            yield fault(
                9,
                "CREW_SIGNING_SECRETS holds something that is not a signing secret.",
                "Each is whsec_ and the base64 of 24 random bytes or more.",
            )


def _ca_file() -> Iterator[CheckMessage]:
    if conf.CREW_WORKER_CA_FILE:
        yield from tried(
            10,
            "CREW_WORKER_CA_FILE",
            lambda: tls_context(conf.CREW_WORKER_CA_FILE),
            "a PEM file with the authority of the workers' certificates",
        )


def _kept_connections() -> Iterator[CheckMessage]:
    database = settings.DATABASES["default"]
    is_asgi = getattr(settings, "ASGI_APPLICATION", None)
    if not is_asgi or "postgresql" not in database.get("ENGINE", ""):
        return
    if database.get("CONN_MAX_AGE", 0) != 0 and "pool" not in database.get("OPTIONS", {}):
        yield Warning(
            "CONN_MAX_AGE keeps connections: under ASGI each request has a thread of its own, and "
            "PostgreSQL runs out of connections.",
            hint="Take CONN_MAX_AGE out of DATABASES; tasks.serving.database.prepare(), called in "
            "asgi.py, lets requests share CREW_WEB_CONNECTIONS.",
            id="crew.W004",
        )


def _slips() -> Iterator[CheckMessage]:
    """Settings and variables whose names are almost those of ours; others' may begin as ours do."""
    names = {name for name in (*dir(settings), *os.environ) if name.startswith("CREW_")}
    for name in sorted(names - SETTINGS.keys()):
        if meant := spelling.meant(name, SETTINGS, alike=0.87):
            text = f"{name} is no setting, and has no effect."
            yield Warning(text, hint=f"Did you mean {meant}?", id="crew.W005")
