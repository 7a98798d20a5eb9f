"""Keeps secrets out of logs: whatever a line says, tokens and passwords in it are not shown."""

import logging
import re
from functools import lru_cache
from typing import Any
from urllib.parse import urlsplit

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured

from .rules.scrubbing import HIDDEN, SHORT, Scrubber, is_short, parts_of

NAMED = (
    "SECRET_KEY",
    "SECRET_KEY_FALLBACKS",
    "CREW_AUTH_PASSWORD",
    "CREW_AUTH_TOKEN",
    "EMAIL_HOST_PASSWORD",
)
LONG = 12  # characters; of a password that no worker knows, a shorter one may be a word of its own

_PATTERNS = tuple(
    re.compile(pattern, re.IGNORECASE)
    for pattern in (
        # A header, in any of the ways that Python and HTTP write one.
        r"(?P<kept>\b(?:(?:proxy-|http_)?authorization|(?:set-|http_)?cookie)['\"]?\s*[:=,]\s*"
        r"(?:b?['\"])?)[^'\"\r\n]+",
        r"(?P<kept>\b(?:token|ticket|password|secret)=)[^&\s'\"]+",
        # A token in the path of a stream (contract 1.5); "-" stands for none.
        r"(?P<kept>/stream/)(?!-?(?:[\s?'\"]|$))[^/\s?'\"]+",
        r"(?P<kept>\b(?:crew_|whsec_))[A-Za-z0-9_+/=-]{16,}",
    )
)


@lru_cache(maxsize=8)
def _scrubber(secrets: tuple[str, ...]) -> Scrubber:
    return Scrubber(secrets)


def answer_scrubber() -> Scrubber:
    """Of all that no worker's answer may bring into our rows: what workers are sent, and more."""
    ours = [each for each in _of_the_site() if len(each) >= LONG]
    return _scrubber(tuple(dict.fromkeys([*_of_the_workers(), *ours])))


def short_credentials() -> bool:
    """Whether some of what workers are sent is too short to be taken out of their answers."""
    header = _setting("CREW_WORKER_AUTHORIZATION_HEADER")
    return bool(header) and is_short(header)


def redact(text: str) -> str:
    """The text without our own secrets, and without what looks like somebody's."""
    text = _scrubber(_secrets()).scrub_text(text)
    for pattern in _PATTERNS:
        text = pattern.sub(rf"\g<kept>{HIDDEN}", text)
    return text


class Formatter(logging.Formatter):
    """Redacts the whole line, the traceback included; a line break in it cannot start another."""

    def format(self, record: logging.LogRecord) -> str:
        return redact(super().format(record))

    def formatMessage(self, record: logging.LogRecord) -> str:
        # Only of the message itself: a traceback behind it keeps its lines.
        record.message = one_line(record.message)
        return super().formatMessage(record)


def one_line(text: str) -> str:
    """Control characters escaped: a name that somebody gave must not forge a log line."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def _secrets() -> tuple[str, ...]:
    """Our secrets as the settings hold them."""
    found = [each for each in [*_of_the_workers(), *_of_the_site()] if len(each) >= SHORT]
    return tuple(dict.fromkeys(found))


def _of_the_workers() -> list[str]:
    """What workers are sent, or sign with: each part of it, as it may be told by itself."""
    signing = _setting("CREW_SIGNING_SECRETS") or ()
    keys = [str(each).removeprefix("whsec_") for each in signing]
    return [*parts_of(_setting("CREW_WORKER_AUTHORIZATION_HEADER") or ""), *keys]


def _of_the_site() -> list[str]:
    values = [_setting(name) for name in NAMED]
    values += [database.get("PASSWORD") for database in settings.DATABASES.values()]
    values += [urlsplit(str(cache.get("LOCATION"))).password for cache in settings.CACHES.values()]
    flat = [each for value in values for each in (value if isinstance(value, list) else [value])]
    return [each for each in flat if each and isinstance(each, str)]


def _setting(name: str) -> Any:
    try:
        return getattr(settings, name, None)
    except ImproperlyConfigured:  # what Django says of an empty SECRET_KEY
        return None
