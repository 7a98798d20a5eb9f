"""How long a `Retry-After` asks to wait, in whatever shape it comes (RFC 9110, 10.2.3). Pure."""

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

MOST = 86_400.0  # seconds; a header is easily wrong, and holds a whole workgroup
LEAST = 1.0  # seconds, when it names a moment that is over
BRIEFEST = 0.1  # seconds; else a task would spend all its patience in one of them

_NUMBER = re.compile(r"[+-]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)")
_UNITS = {
    "d": 86_400.0,
    "h": 3_600.0,
    "m": 60.0,
    "s": 1.0,
    "ms": 1e-3,
    "us": 1e-6,
    "µs": 1e-6,
    "ns": 1e-9,
}
# "1m0s", "500ms", "60 seconds", "2 minutes", "PT1M30S".
_ONE = (
    r"([0-9]+(?:\.[0-9]*)?|\.[0-9]+) ?(ms|us|µs|ns|d|h|m|s)"
    r"(?:ays?|(?:ou)?rs?|in(?:ute)?s?|ec(?:ond)?s?)?"
)
_AMOUNT = re.compile(_ONE, re.IGNORECASE | re.ASCII)
_AMOUNTS = re.compile(rf"([+-]?)(?:PT)?((?:{_ONE} ?)+)", re.IGNORECASE | re.ASCII)
# Not the comma of a date.
_BETWEEN = re.compile(r"(?<!mon|tue|wed|thu|fri|sat|sun|day),", re.IGNORECASE)
# A number of seconds (or of ms, µs, ns) that only a clock shows: from 2001 to 2286.
_EPOCH = (1e9, 1e10)


@dataclass(frozen=True, slots=True)
class Wait:
    """`seconds` is above 0 and at most `MOST`; None when the header cannot be read."""

    seconds: float | None
    note: str = ""


def read(value: str, now: datetime) -> Wait:
    """The longest wait of those that are listed."""
    shown = repr(value.strip()[:60])
    parts = [part.strip() for part in _BETWEEN.split(value) if part.strip()]
    waits = [wait for part in parts if (wait := _seconds(part, now)) is not None]
    if not waits:
        return Wait(None, f"Retry-After could not be read, so the error delay counts: {shown}")
    longest = max(waits)
    if longest > MOST:
        return Wait(MOST, f"Retry-After was cut to a day: {shown}")
    return Wait(max(longest, BRIEFEST) if longest > 0 else LEAST)


def _seconds(text: str, now: datetime) -> float | None:
    if _NUMBER.fullmatch(text):
        return _since_1970(float(text), now)
    if amounts := _AMOUNTS.fullmatch(text):
        found = _AMOUNT.findall(amounts[2])
        total = sum(float(number) * _UNITS[unit.lower()] for number, unit in found)
        return -total if amounts[1] == "-" else total
    moment = _moment(text)
    return None if moment is None else moment.timestamp() - now.timestamp()


def _since_1970(number: float, now: datetime) -> float:
    """The number, or what is left until the time that it must be."""
    for unit in (1.0, 1e3, 1e6, 1e9):
        if _EPOCH[0] <= number / unit < _EPOCH[1]:
            return number / unit - now.timestamp()
    return number


def _moment(text: str) -> datetime | None:
    for parse in (parsedate_to_datetime, datetime.fromisoformat):
        try:
            moment = parse(text)
            aware = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
            aware.timestamp()
        except (ValueError, TypeError, IndexError, OverflowError):
            continue
        return aware
    return None
