"""Every shape of a Retry-After, as a table."""

from datetime import UTC, datetime

import pytest

from tasks.rules.retry_after import MOST, Wait, read

NOW = datetime(2026, 11, 24, 6, 0, tzinfo=UTC)
SOON = int(NOW.timestamp()) + 120


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("120", 120),
        (" 120 ", 120),
        ("+120", 120),
        ("2.0", 2),
        ("0.5", 0.5),
        (".5", 0.5),
        ("1.", 1),
        ("86400", 86_400),
        # All but at once: a tenth of a second.
        ("0.0000001", 0.1),
        ("5ms", 0.1),
        ("100ns", 0.1),
        # Over, or at once: a second.
        ("0", 1),
        ("0.0", 1),
        ("-5", 1),
        ("-0.5", 1),
        ("-1m", 1),
        ("Tue, 24 Nov 2026 05:00:00 GMT", 1),
        ("Sunday, 06-Nov-94 08:49:37 GMT", 1),
        ("1700000000", 1),
        # Lists, as of a header that comes twice: the longest of what can be read.
        ("60, 60", 60),
        ("5, 6", 6),
        ("60,", 60),
        ("60, soon", 60),
        ("Tue, 24 Nov 2026 06:02:00 GMT, 60", 120),
        ("60, Tue, 24 Nov 2026 06:02:00 GMT", 120),
        # Amounts with units.
        ("1m0s", 60),
        ("1h0m0.5s", 3600.5),
        ("500ms", 0.5),
        ("60s", 60),
        ("60 s", 60),
        ("60sec", 60),
        ("60 seconds", 60),
        ("2 Minutes", 120),
        ("1 hour", 3600),
        ("1 min 30 sec", 90),
        ("PT1M30S", 90),
        # Dates.
        ("Tue, 24 Nov 2026 06:02:00 GMT", 120),
        ("Tue, 24 Nov 2026 07:02:00 +0100", 120),
        ("Tue, 24 Nov 2026 06:02:00 -0000", 120),
        ("Tuesday, 24-Nov-26 06:02:00 GMT", 120),
        ("Tue Nov 24 06:02:00 2026", 120),
        ("2026-11-24T06:02:00Z", 120),
        ("2026-11-24 06:02:00", 120),
        # What only a clock shows.
        (str(SOON), 120),
        (f"{SOON}.5", 120.5),
        (f"{SOON}000", 120),
        (f"{SOON}000000", 120),
        (f"{SOON}000000000", 120),
    ],
)
def test_a_wait_is_read(value, seconds):
    wait = read(value, NOW)

    assert wait.seconds == pytest.approx(seconds, abs=0.001)
    assert wait.note == ""


@pytest.mark.parametrize(
    "value",
    [
        "86401",
        "3600000",
        "2 days",
        "9" * 200,
        "9" * 400,
        "Fri, 24 Nov 2056 06:02:00 GMT",
        "Fri, 31 Dec 9999 23:59:59 GMT",
        str(SOON + 86_400),
    ],
)
def test_a_far_one_is_cut_and_reported(value):
    assert read(value, NOW) == Wait(MOST, f"Retry-After was cut to a day: {value[:60]!r}")


@pytest.mark.parametrize(
    "value",
    [
        *("", " ", ",", "soon", "²", "24 Nov", "60%", "1e3", "nan", "inf", "-", "0x10", "٣", "\0"),
        "Tue, 99 Nov 2026 05:00:00 GMT",
        "Tue, 24 Nov 99999 05:00:00 GMT",
    ],
)
def test_another_cannot_be_read_and_that_is_reported(value):
    wait = read(value, NOW)

    assert wait.seconds is None
    assert "could not be read" in wait.note


def test_a_long_one_takes_no_time():
    for value in ("1" * 100_000, "1m" * 50_000, "1 " * 50_000, "," * 100_000, "Tue, " * 20_000):
        read(value, NOW)
