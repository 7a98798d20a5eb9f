"""What a worker wrote becomes UTF-8, whatever it wrote in. Pure.

Work that is done must not fail for its letters: what can be no letter becomes U+FFFD, and a note
says so.
"""

import codecs
import json
import re
from functools import lru_cache

REPLACED = "unusable characters were replaced by U+FFFD"

_CHARSET = re.compile(r""";\s*charset\s*=\s*["']?([^\s;"',]+)""", re.IGNORECASE)
_UTF_8 = frozenset({"utf-8", "utf8", "ascii", "us-ascii", "utf-8-sig"})
_BOMS = (codecs.BOM_UTF8, codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE, codecs.BOM_UTF32_BE)
_BEGINS = (b"{", b"[", b'"', b" ", b"\t", b"\r", b"\n")
# Those that people write in, as Python names them. Of its other codecs some take the square of
# the time, and some are no charsets.
_READ = frozenset(
    {"big5", "big5hkscs", "cp437", "cp850", "cp866", "cp874", "cp932", "cp949", "cp950"}
    | {f"cp125{n}" for n in range(9)}
    | {f"iso8859-{n}" for n in range(1, 17)}
    | {"euc_jp", "euc_kr", "gb2312", "gb18030", "gbk", "iso2022_jp", "koi8-r", "koi8-u"}
    | {"mac-roman", "shift_jis", "tis-620"}
)
# Names that servers of Windows and Java give to what Python knows by another.
_ALSO = {"iso-8859-8-i": "iso8859-8", "windows-31j": "cp932", "x-sjis": "cp932"}


@lru_cache(maxsize=256)
def charset_of(content_type: str) -> str:
    """The charset that a Content-Type names; "" for UTF-8, and for none."""
    found = _CHARSET.search(content_type)
    charset = found[1].lower()[:40] if found else ""
    return "" if charset in _UTF_8 else charset


def as_utf8(data: bytes, charset: str = "") -> tuple[bytes, tuple[str, ...]]:
    """The text as UTF-8 without a byte order mark, and notes of what that took."""
    data, notes = transcoded(data, charset)
    if data.isascii():
        return data, notes
    try:
        data.decode()
    except UnicodeDecodeError:
        return data.decode(errors="replace").encode(), (*notes, REPLACED)
    return data, notes


def transcoded(data: bytes, charset: str = "") -> tuple[bytes, tuple[str, ...]]:
    """The same without a look at text that should be UTF-8 already."""
    if not charset and data.isascii() and b"\0" not in data[:4]:
        return data, ()  # nearly always
    start = data[:4]
    if start.startswith(_BOMS) or b"\0" in start:
        return _by_its_start(data)
    if not charset:
        return data, ()
    name = _codec(charset)
    if name is None:
        return data, (f"the charset {charset!r} is not known: read as UTF-8",)
    if name.startswith(("utf-16", "utf-32")):  # of which it shows no sign
        return data, (f"said to be {name}, and is not: read as UTF-8",)
    return _from(data, name)


def _by_its_start(data: bytes) -> tuple[bytes, tuple[str, ...]]:
    """JSON begins with letters of ASCII, so that its first bytes tell of which UTF it is."""
    if data.startswith(codecs.BOM_UTF8):
        return data.removeprefix(codecs.BOM_UTF8), ("a byte order mark was dropped",)
    name = json.detect_encoding(data)
    if name == "utf-8" or not (data.startswith(_BOMS) or data.lstrip(b"\0")[:1] in _BEGINS):
        return data, ()
    return _from(data, name)


def _from(data: bytes, name: str) -> tuple[bytes, tuple[str, ...]]:
    text = data.decode(name, errors="replace")
    replaced = (REPLACED,) if "\ufffd" in text else ()
    return text.encode(), (f"read as {name}", *replaced)


@lru_cache(maxsize=256)
def _codec(charset: str) -> str | None:
    try:
        name = codecs.lookup(_ALSO.get(charset, charset)).name
    except (LookupError, ValueError):
        return None
    return name if name in _READ or name.startswith(("utf-16", "utf-32")) else None
