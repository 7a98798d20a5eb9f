"""What HTTP put around a body is undone: gzip and deflate, within a limit. Pure.

A worker behind a proxy that compresses unasked did its work all the same.
"""

import codecs
import zlib
from collections.abc import Sequence

MOST_CODINGS = 5  # one around the other; each costs a walk over the body
MOST_MEMBERS = 100  # of gzip, one behind the other; each costs a copy of the rest

_GZIP, _ZLIB, _RAW = 31, 15, -15  # zlib's `wbits`
_GZIP_MAGIC = b"\x1f\x8b"
PLAIN = frozenset({"", "identity"})
_KNOWN = frozenset({"gzip", "x-gzip", "deflate"})
# What else is registered: compressed, but by what we have no reader for.
_UNREAD = frozenset(
    {"aes128gcm", "br", "compress", "dcb", "dcz", "exi", "pack200-gzip", "x-compress", "zstd"}
)


class Unreadable(ValueError):
    """A body cannot be had; the text says why, as a sentence for the operator."""


def too_large(most: int) -> Unreadable:
    return Unreadable(f"answer larger than {most} bytes")


def listed(header: str, value: str) -> list[str]:
    """The codings that a header names, in the order they were applied. Unreadable for others."""
    codings = [name for part in value.lower().split(",") if (name := part.strip()) not in PLAIN]
    if strange := next((name for name in codings if name not in _KNOWN), None):
        raise Unreadable(_not_read(header, strange))
    if len(codings) > MOST_CODINGS:
        raise Unreadable(f"the answer is compressed more than {MOST_CODINGS} times over")
    return codings


def most_coded(most: int) -> int:
    """The bytes that `most` of them can become by a coding, which may make them a few more."""
    return most + most // 1000 + 1024


def decoded(body: bytes, codings: Sequence[str], most: int) -> bytes:
    """The body as it was before the codings. Unreadable when it is none, or longer than `most`."""
    for coding in reversed(codings):
        if not body:
            break  # as proxies leave what has no body
        body = _inflated(body, most) if coding == "deflate" else _gunzipped(body, most)
    return body


def _not_read(header: str, coding: str) -> str:
    if coding in _UNREAD:
        return f"the answer is compressed with {coding}, which was not asked for and is not read"
    says = f"{header} says {coding[:60]!r}, which is no encoding that we know"
    return f"{says}; a charset belongs to the Content-Type" if _is_charset(coding) else says


def _is_charset(name: str) -> bool:
    try:
        return bool(codecs.lookup(name))
    except (LookupError, ValueError):
        return False


def _gunzipped(body: bytes, most: int) -> bytes:
    """All members of it; what else stands behind them is padding."""
    whole = bytearray()
    for _ in range(MOST_MEMBERS):
        part, body = _one(body, _GZIP, "gzip", most)
        whole += part
        if len(whole) > most:
            raise too_large(most)
        if not body.startswith(_GZIP_MAGIC):
            return bytes(whole)
    raise Unreadable(f"the answer is compressed with gzip in more than {MOST_MEMBERS} pieces")


def _inflated(body: bytes, most: int) -> bytes:
    """As RFC 9110 has it, in zlib's format, or as many servers do, without its head."""
    has_head = body[0] & 0x0F == 8 and int.from_bytes(body[:2]) % 31 == 0
    if has_head:
        try:
            return _one(body, _ZLIB, "deflate", most)[0]
        except _BadData:
            pass  # two bytes of a raw one that look like a head
    return _one(body, _RAW, "deflate", most)[0]


class _BadData(Unreadable):
    pass


def _damaged(body: bytes, name: str) -> str:
    if name == "gzip" and body.startswith(_GZIP_MAGIC):
        return "the answer, compressed with gzip, is damaged"
    return f"the answer is said to be compressed with {name}, and is not"


def _one(body: bytes, wbits: int, name: str, most: int) -> tuple[bytes, bytes]:
    """One compressed stream, and what stands behind it."""
    unpacker = zlib.decompressobj(wbits)
    try:
        # One more than is allowed is unpacked, and not a byte beyond.
        whole = unpacker.decompress(body, most + 1)
    except zlib.error:
        raise _BadData(_damaged(body, name)) from None
    if len(whole) > most:
        raise too_large(most)
    if not unpacker.eof:
        raise Unreadable(f"the answer, compressed with {name}, is cut")
    return whole, unpacker.unused_data
