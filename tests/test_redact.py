"""What logs never tell (S6, S26)."""

import logging
from base64 import b64encode
from urllib.parse import quote

import pytest

from tasks.redact import HIDDEN, Formatter, redact

TOKEN = "crew_" + "s3cr3t-T0ken_" * 3 + "abcd"
CANARY = "canary-0123456789"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("Authorization: Bearer canary-1", f"Authorization: {HIDDEN}"),
        ("{'Authorization': 'Bearer canary-1', 'a': 1}", f"'Authorization': '{HIDDEN}', 'a': 1"),
        ('"authorization":"canary-1"', HIDDEN),
        ("[(b'authorization', b'Bearer canary-1'), (b'a', b'b')]", f"b'{HIDDEN}'), (b'a', b'b')"),
        ("HTTP_AUTHORIZATION=canary-1", HIDDEN),
        ("Cookie: sessionid=canary-1; csrftoken=canary-2", f"Cookie: {HIDDEN}"),
        ("Set-Cookie: a=canary-1", HIDDEN),
        ("GET /x?a=1&token=canary-1&b=2 HTTP/1.1", f"/x?a=1&token={HIDDEN}&b=2 HTTP/1.1"),
        ("password=canary-1 done", f"password={HIDDEN} done"),
        (
            '"GET /api/v1/task_group/g/stream/canary-1" 101',
            f'"GET /api/v1/task_group/g/stream/{HIDDEN}" 101',
        ),
        ("/api/v1/task_group/g/stream/Bearer%20canary-1?x=1", f"/stream/{HIDDEN}?x=1"),
        (f"a token {TOKEN}.", f"a token crew_{HIDDEN}."),
        ("whsec_" + "a" * 32, f"whsec_{HIDDEN}"),
    ],
)
def test_s6_a_secret_is_not_shown_wherever_it_stands(text, shown):
    said = redact(text)

    assert "canary" not in said and TOKEN not in said
    assert shown in said


@pytest.mark.parametrize(
    "text",
    [
        "GET /api/v1/task_group/g/stream/- 101",
        "Task t completed by worker-a in 0.1 s",
        "Token 5 (nightly (crew_abcdefg…)) was made: read, write",
        "the author, authorized: yes",
    ],
)
def test_what_is_no_secret_is_shown(text):
    assert redact(text) == text


def test_s6_the_site_s_own_secrets_are_known_by_their_values(settings, monkeypatch):
    settings.SECRET_KEY = f"{CANARY}-1"
    settings.CREW_AUTH_PASSWORD = f"{CANARY}-2"
    settings.CREW_AUTH_TOKEN = f"{CANARY}-3"
    settings.CREW_WORKER_AUTHORIZATION_HEADER = f"Bearer {CANARY}-4"
    settings.CREW_SIGNING_SECRETS = [f"whsec_{CANARY}-5"]
    monkeypatch.setitem(settings.DATABASES["default"], "PASSWORD", f"{CANARY}-6")

    for secret in ("{}-1", "{}-2", "{}-3", "{}-4", "Bearer {}-4", "whsec_{}-5", "{}-6"):
        assert CANARY not in redact(f"it said {secret.format(CANARY)} to me")


@pytest.mark.parametrize(
    "spelled", [quote("a/b+c=d&e f-0123"), b64encode(b"x:a/b+c=d&e f-0123").decode()]
)
def test_s6_a_secret_is_known_in_its_other_spellings_too(settings, spelled):
    settings.CREW_AUTH_PASSWORD = "a/b+c=d&e f-0123"

    assert spelled not in redact(f"it said {spelled}")


def test_s6_a_log_line_is_redacted_with_its_traceback():
    try:
        raise ValueError("Authorization: Bearer canary-1")
    except ValueError as error:
        record = logging.LogRecord(
            "a", 20, "f", 1, "token=%s", ("canary-2",), (type(error), error, error.__traceback__)
        )

    said = Formatter("%(levelname)s %(message)s").format(record)

    assert "canary" not in said
    assert said.splitlines()[0] == f"INFO token={HIDDEN}"
    assert "Traceback" in said


def test_s26_a_name_cannot_forge_a_log_line():
    record = logging.LogRecord(
        "a", 20, "f", 1, "%s failed", ("x\r\n2026 INFO\x1b[2J\u2028y",), None
    )

    said = Formatter("%(message)s").format(record)

    assert said == "x\\r\\n2026 INFO\\x1b[2J\\u2028y failed"


def test_s6_every_handler_of_the_site_redacts():
    for logger in [logging.getLogger(name) for name in ("", *logging.Logger.manager.loggerDict)]:
        for handler in logger.handlers:
            is_ours = type(handler).__module__ == "logging"
            if is_ours and not isinstance(handler, logging.NullHandler):
                assert isinstance(handler.formatter, Formatter), (logger, handler)
