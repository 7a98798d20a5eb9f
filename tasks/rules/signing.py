"""The secrets that sign calls (Standard Webhooks), for who sends and who verifies. Pure."""

import base64
import binascii

MIN_KEY = 24  # bytes


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
