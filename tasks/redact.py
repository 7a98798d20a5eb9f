"""Keeps secrets out of logs: whatever a line says, tokens and passwords in it are not shown."""

import logging
import re
from typing import Any

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured

HIDDEN = "[redacted]"
NAMED = (
    "SECRET_KEY",
    "CREW_AUTH_PASSWORD",
    "CREW_AUTH_TOKEN",
    "CREW_WORKER_AUTHORIZATION_HEADER",
    "CREW_SIGNING_SECRETS",
)
MIN_LENGTH = 8  # what is shorter would hide words that only happen to be equal

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


def redact(text: str) -> str:
    """The text without our own secrets, and without what looks like somebody's."""
    for secret in _secrets():
        text = text.replace(secret, HIDDEN)
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


def _secrets() -> list[str]:
    """Our secrets as the settings hold them, the longest first as one may be part of another."""
    values = [_setting(name) for name in NAMED]
    values += [database.get("PASSWORD") for database in settings.DATABASES.values()]
    flat = [each for value in values for each in (value if isinstance(value, list) else [value])]
    texts = [each for each in flat if isinstance(each, str)]
    # A header's credentials may stand without the scheme before them.
    texts += [each.rpartition(" ")[2] for each in texts]
    found = {each for each in texts if len(each) >= MIN_LENGTH}
    return sorted(found, key=len, reverse=True)


def _setting(name: str) -> Any:
    try:
        return getattr(settings, name, None)
    except ImproperlyConfigured:  # what Django says of an empty SECRET_KEY
        return None
