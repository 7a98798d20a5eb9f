"""The secrets that sign calls (Standard Webhooks), for who sends and who verifies. Pure."""

import base64
import binascii
from collections.abc import Iterable

MIN_KEY = 24  # bytes


def signing_keys(secrets: Iterable[str]) -> tuple[bytes, ...]:
    """Their keys, read once: an iterator would give them only to the first caller.

    ValueError when there are none: whoever names secrets does not mean "check nothing".
    """
    if isinstance(secrets, str | bytes):
        raise ValueError("the signing secrets are a list, not one text")
    keys = tuple(map(signing_key, secrets))
    if not keys:
        raise ValueError("there are no signing secrets in what was given; give none at all instead")
    return keys


def signing_key(secret: str) -> bytes:
    """The key in a "whsec_<base64>" secret, at least 24 bytes of it. ValueError if it is none."""
    text = secret.removeprefix("whsec_")
    try:
        key = base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
    except (binascii.Error, ValueError):
        key = b""
    if text == secret or len(key) < MIN_KEY:
        raise ValueError(f"a signing secret is 'whsec_' and base64 of {MIN_KEY} bytes or more")
    return key
