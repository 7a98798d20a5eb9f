"""Who gets in: the settings that say so, checked, and warnings where they let everyone in."""

import re
from collections.abc import Iterator

from django.conf import settings
from django.contrib.auth import get_user_model
from django.contrib.auth.password_validation import validate_password
from django.core.checks import CheckMessage, Warning
from django.core.exceptions import ValidationError
from django.utils.module_loading import import_string

from ..conf import conf
from .findings import fault, tried

DEFAULT_LOGINS = {"admin", "crew", "dae4082985ef202439d16f9b25a8823e"}
SHORTEST = 12  # characters of an operator's password
LOOPBACK = {"127.0.0.1", "::1", "localhost"}

_TOKEN = re.compile(r"[!-+\--~]{16,}")  # visible ASCII without the comma, which joins two headers
_ORIGIN = re.compile(r"[a-z][a-z0-9+.-]*://(?:[A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(?::[0-9]{1,5})?")


def default_credentials(host: str) -> Iterator[CheckMessage]:
    """What everybody knows is no secret for a server that listens on this host."""
    if _known_credentials() and not (settings.DEBUG and host in LOOPBACK):
        yield fault(
            1,
            "CREW_AUTH_PASSWORD or CREW_AUTH_TOKEN is the well-known default of the old Crew.",
            "Choose your own; nothing is guessed more often. Only with DEBUG=1 and HOST=127.0.0.1 "
            "they are let pass.",
        )


def open_doors() -> list[str]:
    """What everyone who opens the admin, and the log of each start, should show."""
    lines = []
    if not conf.CREW_AUTHENTICATION:
        lines.append(
            "Authentication is off: whoever reaches this server may do everything by the API."
        )
    if _known_credentials():
        lines.append(
            "The well-known login or token of the old Crew is in use: for your own machine only."
        )
    return lines


def _known_credentials() -> bool:
    given = {conf_value(name) for name in ("CREW_AUTH_PASSWORD", "CREW_AUTH_TOKEN")}
    return bool(given & DEFAULT_LOGINS)


def fixed_token() -> Iterator[CheckMessage]:
    token = conf.CREW_AUTH_TOKEN
    if token in DEFAULT_LOGINS:
        return
    if token and not _TOKEN.fullmatch(token):
        yield fault(
            15,
            "CREW_AUTH_TOKEN is not a token: at least 16 characters, ASCII without spaces and "
            "commas.",
            "python -c 'import secrets; print(secrets.token_urlsafe(32))' makes one.",
        )


def weak_password() -> Iterator[CheckMessage]:
    """Of the operator's account, whose password nobody types into a form that would refuse it."""
    password, name = conf.CREW_AUTH_PASSWORD, conf.CREW_AUTH_USERNAME
    if not password or settings.DEBUG or password in DEFAULT_LOGINS:
        return
    try:
        validate_password(password, get_user_model()(**{get_user_model().USERNAME_FIELD: name}))
        words = [] if len(password) >= SHORTEST else [f"It has fewer than {SHORTEST} characters."]
    except ValidationError as error:
        words = error.messages
    if words:
        yield fault(
            19,
            f"CREW_AUTH_PASSWORD is weak. {' '.join(words)}",
            "python -c 'import secrets; print(secrets.token_urlsafe(16))' makes one.",
        )


def authentication() -> Iterator[CheckMessage]:
    paths = conf.CREW_AUTHENTICATION
    if not paths and not settings.DEBUG:
        yield Warning(
            "CREW_AUTHENTICATION is empty: whoever reaches this server may do everything.",
            hint="Unset CREW_NO_AUTH, unless something in front of the server lets nobody else in.",
            id="crew.W002",
        )
    for path in paths:
        yield from tried(
            11,
            "CREW_AUTHENTICATION",
            lambda path=path: _authenticator(path),  # type: ignore[misc]
            "dotted paths of classes of Django REST framework's authentication",
        )


def _authenticator(path: str) -> None:
    from ..access.http import imported  # brings REST framework: not while apps are loaded

    if not hasattr(imported(path), "authenticate"):
        raise TypeError(f"{path} has no authenticate()")


def login() -> Iterator[CheckMessage]:
    if conf.CREW_LOGIN:
        yield from tried(
            12,
            "CREW_LOGIN",
            lambda: import_string(conf.CREW_LOGIN).__call__,
            "the dotted path of a callable (request, username, password) that gives a token",
        )


def stream_origins() -> Iterator[CheckMessage]:
    for origin in conf.CREW_STREAM_ORIGINS:
        if origin != "*" and not _ORIGIN.fullmatch(origin):
            yield fault(
                14,
                f"CREW_STREAM_ORIGINS holds {origin!r}, which is not an origin.",
                'Each is scheme://host or scheme://host:port, with nothing behind it, or "*".',
            )


def conf_value(name: str) -> str:
    return getattr(settings, name, "") or ""
