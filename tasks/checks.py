"""System checks: each wrong setting is named when anything starts, with a hint how to mend it."""

import ipaddress
import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any
from urllib.parse import urlsplit

from django.apps import AppConfig
from django.conf import settings
from django.core.checks import CheckMessage, Error, Tags, Warning, register
from django.core.exceptions import ImproperlyConfigured
from django.utils.module_loading import import_string

from .conf import DEFAULTS, MOST_DAYS, conf
from .deliver import make_deliverer, tls_context
from .destinations import Destinations
from .names import check_base
from .signing import signing_key
from .transcript import MOST_KEPT

POSITIVE = (
    "CREW_SLOTS",
    "CREW_LEASE_SECONDS",
    "CREW_SWEEP_SECONDS",
    "CREW_DELIVERY_TIMEOUT_SECONDS",
    "CREW_AUDIT_DAYS",
    *(name for name in DEFAULTS if name.startswith("CREW_MAX_")),
)
DEFAULT_LOGINS = {"admin", "crew", "dae4082985ef202439d16f9b25a8823e"}
LOOPBACK = {"127.0.0.1", "::1", "localhost"}

_TOKEN = re.compile(r"[!-+\--~]{16,}")  # visible ASCII without the comma, which joins two headers
_ORIGIN = re.compile(r"[a-z][a-z0-9+.-]*://(?:[A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(?::[0-9]{1,5})?")


@register(Tags.security)
def check_settings(app_configs: Sequence[AppConfig] | None, **kwargs: Any) -> list[CheckMessage]:
    """All checks of CREW_* settings: crew.E001 to crew.E017, and crew.W002."""
    return [
        *default_credentials(getattr(settings, "HOST", "127.0.0.1")),
        *_fixed_token(),
        *_authentication(),
        *_login(),
        *_stream_origins(),
        *_trusted_proxies(),
        *_secret_key(),
        *_worker_base(),
        *_authorization(),
        *_numbers(),
        *_dotted_paths(),
        *_failpoints(),
        *_networks(),
        *_secrets(),
        *_ca_file(),
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


def _error(number: int, text: str, hint: str) -> Error:
    return Error(text, hint=hint, id=f"crew.E{number:03}")


def default_credentials(host: str) -> Iterator[CheckMessage]:
    """What everybody knows is no secret for a server that listens on this host."""
    if _known_credentials() and not (settings.DEBUG and host in LOOPBACK):
        yield _error(
            1,
            "CREW_AUTH_PASSWORD or CREW_AUTH_TOKEN is the well-known default of the old Crew.",
            "Choose your own; nothing is guessed more often. Only with DEBUG=1 and HOST=127.0.0.1 "
            "they are let pass.",
        )


def open_doors() -> list[str]:
    """What everyone who opens the admin, and the log of each start, should be told."""
    told = []
    if not conf.CREW_AUTHENTICATION:
        told.append(
            "Authentication is off: whoever reaches this server may do everything by the API."
        )
    if _known_credentials():
        told.append(
            "The well-known login or token of the old Crew is in use: for your own machine only."
        )
    return told


def _known_credentials() -> bool:
    given = {conf_value(name) for name in ("CREW_AUTH_PASSWORD", "CREW_AUTH_TOKEN")}
    return bool(given & DEFAULT_LOGINS)


def _fixed_token() -> Iterator[CheckMessage]:
    token = conf.CREW_AUTH_TOKEN
    if token in DEFAULT_LOGINS:
        return
    if token and not (isinstance(token, str) and _TOKEN.fullmatch(token)):
        yield _error(
            15,
            "CREW_AUTH_TOKEN is not a token: at least 16 characters, ASCII without spaces and "
            "commas.",
            "python -c 'import secrets; print(secrets.token_urlsafe(32))' makes one.",
        )


def _authentication() -> Iterator[CheckMessage]:
    paths = conf.CREW_AUTHENTICATION
    if not isinstance(paths, list | tuple):
        yield _error(11, "CREW_AUTHENTICATION must be a list.", "See conf.py.")
        return
    if not paths and not settings.DEBUG:
        yield Warning(
            "CREW_AUTHENTICATION is empty: whoever reaches this server may do everything.",
            hint="Unset CREW_NO_AUTH, unless something in front of the server lets nobody else in.",
            id="crew.W002",
        )
    for path in paths:
        yield from _tried(
            11,
            "CREW_AUTHENTICATION",
            lambda path=path: _authenticator(path),  # type: ignore[misc]
            "dotted paths of classes of Django REST framework's authentication",
        )


def _authenticator(path: str) -> None:
    # As in the settings' default: "api." begins a path of this very package.
    found = import_string(f"{__package__}.{path}" if path.startswith("api.") else path)
    if not hasattr(found, "authenticate"):
        raise TypeError(f"{path} has no authenticate()")


def _login() -> Iterator[CheckMessage]:
    if conf.CREW_LOGIN:
        yield from _tried(
            12,
            "CREW_LOGIN",
            lambda: import_string(conf.CREW_LOGIN).__call__,
            "the dotted path of a callable (request, username, password) that gives a token",
        )
    hours = conf.CREW_LOGIN_HOURS
    if not _is_number(hours) or not 0 < hours <= 12:
        yield _error(
            13,
            f"CREW_LOGIN_HOURS must be above 0 and at most 12, not {hours!r}.",
            "Programs take an API token, which can live longer: manage.py crewtoken makes one.",
        )


def _stream_origins() -> Iterator[CheckMessage]:
    for origin in conf.CREW_STREAM_ORIGINS:
        if origin != "*" and not (isinstance(origin, str) and _ORIGIN.fullmatch(origin)):
            yield _error(
                14,
                f"CREW_STREAM_ORIGINS holds {origin!r}, which is not an origin.",
                'Each is scheme://host or scheme://host:port, with nothing behind it, or "*".',
            )


def _trusted_proxies() -> Iterator[CheckMessage]:
    hops = conf.CREW_TRUSTED_PROXIES
    if not isinstance(hops, int) or isinstance(hops, bool) or not 0 <= hops <= 10:
        yield _error(
            16,
            f"CREW_TRUSTED_PROXIES must be a whole number from 0 to 10, not {hops!r}.",
            "It counts the proxies in front of us that each add to X-Forwarded-For.",
        )


def conf_value(name: str) -> str:
    return getattr(settings, name, "") or ""


def _secret_key() -> Iterator[CheckMessage]:
    try:
        key = settings.SECRET_KEY
    except ImproperlyConfigured:  # what Django says of an empty one
        key = ""
    if not settings.DEBUG and (len(key) < 32 or key.startswith("insecure")):
        yield _error(
            2,
            "SECRET_KEY is missing, short or the development key.",
            "Set SECRET_KEY to at least 32 random characters, or DEBUG=1 on your own machine.",
        )


def _worker_base() -> Iterator[CheckMessage]:
    base = conf.CREW_WORKER_BASE_URL
    if not base:
        yield _error(
            3,
            "CREW_WORKER_BASE_URL is not set: no task can be delivered.",
            "Set it to the URL before your workers' names, such as https://workers.example/run/ .",
        )
        return
    yield from _tried(3, "CREW_WORKER_BASE_URL", lambda: _check_base(base), "https://host/path/")


def _authorization() -> Iterator[CheckMessage]:
    header = conf.CREW_WORKER_AUTHORIZATION_HEADER
    if header is not None and not (header.isascii() and header.isprintable()):
        yield _error(
            4,
            "CREW_WORKER_AUTHORIZATION_HEADER holds a line break or a character no header takes.",
            "It is sent verbatim, for example: Bearer <token>",
        )


def _numbers() -> Iterator[CheckMessage]:
    for name in POSITIVE:
        value = getattr(conf, name)
        if not _is_number(value) or value <= 0:
            yield _error(5, f"{name} must be a number above 0, not {value!r}.", "See conf.py.")
    if isinstance(conf.CREW_DRAIN_SECONDS, int | float) and conf.CREW_DRAIN_SECONDS < 0:
        yield _error(5, "CREW_DRAIN_SECONDS must not be negative.", "0 drops running calls.")
    if _is_number(conf.CREW_AUDIT_DAYS) and conf.CREW_AUDIT_DAYS > MOST_DAYS:
        yield _error(5, "CREW_AUDIT_DAYS must be a hundred years at most.", "400 is the default.")
    keep = conf.CREW_KEEP_DAYS
    if keep is not None and not (_is_number(keep) and 0 < keep <= MOST_DAYS):
        hint = "None, the default, keeps them."
        yield _error(5, f"CREW_KEEP_DAYS must be days up to a hundred years, not {keep!r}.", hint)
    kept = conf.CREW_KEEP_CALL_BYTES
    if not isinstance(kept, int) or not 0 <= kept <= MOST_KEPT:
        text = f"CREW_KEEP_CALL_BYTES must be 0 to {MOST_KEPT} bytes, not {kept!r}."
        yield _error(5, text, "0 keeps nothing of requests and answers.")
    limit = conf.CREW_WORKER_MAX_CONCURRENCY
    if limit is not None and (not isinstance(limit, int) or limit < 0):
        yield _error(
            5, f"CREW_WORKER_MAX_CONCURRENCY must be 0 or more, not {limit!r}.", "None: no limit."
        )


def _dotted_paths() -> Iterator[CheckMessage]:
    yield from _tried(
        6,
        "CREW_DELIVERER",
        lambda: make_deliverer(conf.CREW_DELIVERER),
        '"asyncio", "requests" or the dotted path of a Deliverer',
    )
    if conf.CREW_THROTTLER:
        yield from _tried(
            7,
            "CREW_THROTTLER",
            lambda: import_string(conf.CREW_THROTTLER),
            "the dotted path of a callable that gives a Throttler",
        )


def _failpoints() -> Iterator[CheckMessage]:
    if conf.CREW_FAILPOINTS and not settings.DEBUG:
        hint = "Unset it: with it a scheduler kills itself."
        yield _error(17, "CREW_FAILPOINTS is for tests, and this is no DEBUG.", hint)


def _networks() -> Iterator[CheckMessage]:
    for net in conf.CREW_WORKER_ALLOW_NETS:
        yield from _tried(
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
            yield _error(
                9,
                "CREW_SIGNING_SECRETS holds something that is not a signing secret.",
                "Each is whsec_ and the base64 of 24 random bytes or more.",
            )


def _ca_file() -> Iterator[CheckMessage]:
    if conf.CREW_WORKER_CA_FILE:
        yield from _tried(
            10,
            "CREW_WORKER_CA_FILE",
            lambda: tls_context(conf.CREW_WORKER_CA_FILE),
            "a PEM file with the authority of the workers' certificates",
        )


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _tried(number: int, name: str, use: Callable[[], object], hint: str) -> Iterator[CheckMessage]:
    try:
        use()
    except Exception as error:  # noqa: BLE001  whatever an import or a parser says
        yield _error(number, f"{name} can not be used: {error}", f"It takes {hint}.")
