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

from ..conf import DEFAULTS, MOST_DAYS, conf
from ..delivery.calls import make_deliverer, tls_context
from ..delivery.destinations import Destinations
from ..engine import schema_version
from ..rules import spelling
from ..rules.names import check_base
from ..rules.signing import signing_key
from ..rules.transcript import MOST_KEPT
from . import logins
from .findings import fault, is_number, tried

POSITIVE = (
    "CREW_SLOTS",
    "CREW_LEASE_SECONDS",
    "CREW_SWEEP_SECONDS",
    "CREW_DELIVERY_TIMEOUT_SECONDS",
    "CREW_AUDIT_DAYS",
    "CREW_WEB_CONNECTIONS",
    "CREW_CALLS_BYTES",
    "CREW_WEB_BYTES",
    *(name for name in DEFAULTS if name.startswith("CREW_MAX_")),
)


@register(Tags.security)
def check_settings(app_configs: Sequence[AppConfig] | None, **kwargs: Any) -> list[CheckMessage]:
    """All checks of CREW_* settings: crew.E001 to crew.E017, crew.W002, crew.W004 and
    crew.W005."""
    return [
        *logins.default_credentials(getattr(settings, "HOST", "127.0.0.1")),
        *logins.fixed_token(),
        *logins.authentication(),
        *logins.login(),
        *logins.stream_origins(),
        *logins.trusted_proxies(),
        *_secret_key(),
        *_worker_base(),
        *_authorization(),
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
    encoding = schema_version.encoding()
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
    if not settings.DEBUG and (len(key) < 32 or key.startswith("insecure")):
        yield fault(
            2,
            "SECRET_KEY is missing, short or the development key.",
            "Set SECRET_KEY to at least 32 random characters, or DEBUG=1 on your own machine.",
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


def _numbers() -> Iterator[CheckMessage]:
    for name in POSITIVE:
        value = getattr(conf, name)
        if not is_number(value) or value <= 0:
            yield fault(5, f"{name} must be a number above 0, not {value!r}.", "See conf.py.")
    if isinstance(conf.CREW_DRAIN_SECONDS, int | float) and conf.CREW_DRAIN_SECONDS < 0:
        yield fault(5, "CREW_DRAIN_SECONDS must not be negative.", "0 cuts running calls at once.")
    kept = conf.CREW_SLOT_KEPT_SECONDS
    if not (is_number(kept) and 0 <= kept <= 86_400):
        text = f"CREW_SLOT_KEPT_SECONDS must be 0 to 86,400 seconds, not {kept!r}."
        yield fault(5, text, "0 frees a slot as soon as the connection is gone.")
    if is_number(conf.CREW_AUDIT_DAYS) and conf.CREW_AUDIT_DAYS > MOST_DAYS:
        yield fault(5, "CREW_AUDIT_DAYS must be a hundred years at most.", "400 is the default.")
    keep = conf.CREW_KEEP_DAYS
    if keep is not None and not (is_number(keep) and 0 < keep <= MOST_DAYS):
        hint = "None, the default, keeps them."
        yield fault(5, f"CREW_KEEP_DAYS must be days up to a hundred years, not {keep!r}.", hint)
    size = conf.CREW_KEEP_CALL_BYTES
    if not isinstance(size, int) or not 0 <= size <= MOST_KEPT:
        text = f"CREW_KEEP_CALL_BYTES must be 0 to {MOST_KEPT} bytes, not {size!r}."
        yield fault(5, text, "0 keeps nothing of requests and answers.")
    limit = conf.CREW_WORKER_MAX_CONCURRENCY
    if limit is not None and (not isinstance(limit, int) or limit < 0):
        yield fault(
            5, f"CREW_WORKER_MAX_CONCURRENCY must be 0 or more, not {limit!r}.", "None: no limit."
        )


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
    for name in sorted(names - DEFAULTS.keys()):
        if meant := spelling.meant(name, DEFAULTS, alike=0.87):
            text = f"{name} is no setting, and has no effect."
            yield Warning(text, hint=f"Did you mean {meant}?", id="crew.W005")
