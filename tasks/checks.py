"""System checks: each wrong setting is named when anything starts, with a hint how to mend it."""

import ipaddress
from collections.abc import Callable, Iterator, Sequence
from typing import Any
from urllib.parse import urlsplit

from django.apps import AppConfig
from django.conf import settings
from django.core.checks import CheckMessage, Error, Tags, Warning, register
from django.utils.module_loading import import_string

from .conf import DEFAULTS, conf
from .deliver import make_deliverer, signing_key, tls_context
from .destinations import Destinations
from .names import check_base

POSITIVE = (
    "CREW_SLOTS",
    "CREW_LEASE_SECONDS",
    "CREW_SWEEP_SECONDS",
    "CREW_DELIVERY_TIMEOUT_SECONDS",
    *(name for name in DEFAULTS if name.startswith("CREW_MAX_")),
)
DEFAULT_LOGINS = {"admin", "crew", "dae4082985ef202439d16f9b25a8823e"}


@register(Tags.security)
def check_settings(app_configs: Sequence[AppConfig] | None, **kwargs: Any) -> list[CheckMessage]:
    """All checks of CREW_* settings: crew.E001 to crew.E010."""
    return [
        *_default_credentials(),
        *_secret_key(),
        *_worker_base(),
        *_authorization(),
        *_numbers(),
        *_dotted_paths(),
        *_networks(),
        *_secrets(),
        *_ca_file(),
    ]


def _check_base(base: str) -> None:
    host = urlsplit(check_base(base)).hostname or ""
    Destinations.of(base, ()).check_literal(host)


@register(Tags.security, deploy=True)
def check_deployment(app_configs: Sequence[AppConfig] | None, **kwargs: Any) -> list[CheckMessage]:
    """crew.W001: only asked by `check --deploy`, as http may be right on one's own network."""
    if not conf.CREW_WORKER_BASE_URL.startswith("http://"):
        return []
    return [
        Warning(
            "CREW_WORKER_BASE_URL is http: inputs, outputs and the Authorization header travel "
            "in the clear.",
            hint="Use https unless the workers are reached over a network that is yours alone.",
            id="crew.W001",
        )
    ]


def _error(number: int, text: str, hint: str) -> Error:
    return Error(text, hint=hint, id=f"crew.E{number:03}")


def _default_credentials() -> Iterator[CheckMessage]:
    given = {conf_value(name) for name in ("CREW_AUTH_PASSWORD", "CREW_AUTH_TOKEN")}
    if not settings.DEBUG and given & DEFAULT_LOGINS:
        yield _error(
            1,
            "CREW_AUTH_PASSWORD or CREW_AUTH_TOKEN is the well-known default of the old Crew.",
            "Choose your own; nothing is guessed more often.",
        )


def conf_value(name: str) -> str:
    return getattr(settings, name, "") or ""


def _secret_key() -> Iterator[CheckMessage]:
    key = settings.SECRET_KEY
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
        if not isinstance(value, int | float) or isinstance(value, bool) or value <= 0:
            yield _error(5, f"{name} must be a number above 0, not {value!r}.", "See conf.py.")
    if isinstance(conf.CREW_DRAIN_SECONDS, int | float) and conf.CREW_DRAIN_SECONDS < 0:
        yield _error(5, "CREW_DRAIN_SECONDS must not be negative.", "0 drops running calls.")
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
        '"aiohttp", "requests" or the dotted path of a Deliverer',
    )
    if conf.CREW_THROTTLER:
        yield from _tried(
            7,
            "CREW_THROTTLER",
            lambda: import_string(conf.CREW_THROTTLER),
            "the dotted path of a callable that gives a Throttler",
        )


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


def _tried(number: int, name: str, use: Callable[[], object], hint: str) -> Iterator[CheckMessage]:
    try:
        use()
    except Exception as error:  # noqa: BLE001  whatever an import or a parser says
        yield _error(number, f"{name} can not be used: {error}", f"It takes {hint}.")
