"""Takes secrets out of texts that others wrote, however they spelled them. Pure.

A text without a secret is only searched, which costs next to nothing. Where one is found, a pattern
that knows each character in every spelling replaces it: as it is, escaped for JSON, percent-encoded
in any case, as an entity of HTML, and within something in base64, wherever that begins.
"""

import binascii
import html
import re
from base64 import b64decode, b64encode
from collections.abc import Iterable, Iterator
from functools import cached_property
from urllib.parse import unquote_to_bytes

HIDDEN = "[redacted]"
SHORT = 8  # characters; what is shorter would hide words that only happen to be equal

_HIDDEN = HIDDEN.encode()
_DEEP = 3  # times that a text may be percent-encoded over again
# All bounded, or a text of nothing but backslashes would take the square of its time.
_BACKSLASHES = rb"\\{1,8}"
_BREAKS = rb"(?:[\r\n]|\\{1,8}[rn]|%(?:25){0,3}0[aAdD]){0,4}"
_AUTHORIZATION = rb"(?P<kept>(?i:authorization)[\\\"'\s]{0,8}(?::|=>?|,)[\\\"'\sb]{0,8})"
_ESCAPED = re.compile(rb"\\(?:u00|x)([0-9a-fA-F]{2})")
# What shows that a text is encoded; a line break within a text of JSON does not.
_SIGNS = (b"%", b"&", b"\\u00", b"\\x", b"\\/", b'\\\\"')
_LINE = 64  # characters of base64, the shortest that is usual
_PARAMETER = re.compile(r"""([A-Za-z0-9_*-]+)\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^\s,;"]+))""")
_NO_SECRETS = ("algorithm", "qop")  # of Digest: words that everybody knows


class Scrubber:
    """Of these secrets; a short one goes only where it stands behind the name of its header."""

    def __init__(self, secrets: Iterable[str]) -> None:
        # The longest first, as one may be a part of another.
        known = sorted({each for each in secrets if each}, key=len, reverse=True)
        self._needles = _once(needle for each in known for needle in _needles(each))
        self._broken = _once(needle for each in known for needle in _broken_needles(each))
        self._known = known

    @cached_property
    def _pattern(self) -> re.Pattern[bytes]:
        # Large, and for most never needed.
        return re.compile(b"|".join(each for secret in self._known for each in _patterns(secret)))

    def scrub(self, data: bytes) -> bytes:
        """The very same bytes when there is no secret in them."""
        if not self._known or not (self._has(data) or self._has_encoded(data)):
            return data
        clean = self._pattern.sub(_hidden, data)
        # Spelled in a way of which the pattern does not know all: nothing of it is kept.
        return _HIDDEN if clean == data and self._is_certain(data) else clean

    def scrub_text(self, text: str) -> str:
        data = text.encode(errors="surrogatepass")
        clean = self.scrub(data)
        return text if clean is data else clean.decode(errors="surrogatepass")

    def _has(self, data: bytes) -> bool:
        if _find(data, self._needles):
            return True
        is_broken = data.find(b"\n") >= 0 or data.find(b"\\n") >= 0
        return is_broken and _find(data, self._broken)

    def _has_encoded(self, data: bytes) -> bool:
        return _find(data, _SIGNS) and self._has(_plain(data))

    def _is_certain(self, data: bytes) -> bool:
        plain = _plain(data)
        return any(len(each) >= SHORT and plain.find(each) >= 0 for each in self._needles)


def parts_of(header: str) -> list[str]:
    """The secrets in the value of an Authorization header, and the whole if one of them is short.

    Each parameter of `Digest` or `Token` is one, and so is the password in `Basic`.
    """
    scheme, _, rest = header.strip().partition(" ")
    credentials = rest.strip() or scheme
    parts = [
        (quoted or bare).replace("\\", "")
        for name, quoted, bare in _PARAMETER.findall(credentials)
        if name.lower() not in _NO_SECRETS
    ]
    parts += credentials.split() if not parts else [credentials]
    if scheme.lower() == "basic":
        parts += _basic(credentials)
    is_covered = all(len(part) >= SHORT for part in parts)
    return [part for part in parts if len(part) >= SHORT] + ([] if is_covered else [header.strip()])


def is_short(header: str) -> bool:
    """Whether a part of the header is only taken out together with the rest of it."""
    return header.strip() in parts_of(header) and len(header.strip().partition(" ")[2]) < SHORT


def _basic(credentials: str) -> list[str]:
    try:
        plain = b64decode(credentials, validate=True).decode()
    except (binascii.Error, ValueError):
        return []
    return [plain, plain.partition(":")[2]]


def _hidden(found: re.Match[bytes]) -> bytes:
    kept: bytes | None = found.groupdict().get("kept")
    return (kept or b"") + _HIDDEN


def _plain(data: bytes) -> bytes:
    """As it may have been before it was encoded; the same where nothing shows that it was."""
    text = data
    for _ in range(_DEEP):
        if text.find(b"%") < 0:
            break
        text = unquote_to_bytes(text)
    if text.find(b"&") >= 0:
        text = html.unescape(text.decode("latin-1")).encode("latin-1", errors="replace")
    if text.find(b"\\") >= 0:
        text = _ESCAPED.sub(lambda found: bytes.fromhex(found[1].decode()), text)
    return text.translate(None, b"\\")


def _find(data: bytes, needles: tuple[bytes, ...]) -> bool:
    # Not `in`, which first tries to take what is looked for as the number of a byte.
    return bool(needles) and max(map(data.find, needles)) >= 0


def _once(needles: Iterable[bytes]) -> tuple[bytes, ...]:
    return tuple(dict.fromkeys(needles))


# --- What is looked for ----------------------------------------------------------------------


def _needles(secret: str) -> Iterator[bytes]:
    """What a text must hold, as it is or made plain, that holds the secret."""
    raw = secret.encode(errors="surrogatepass")
    yield raw
    if b'"' in raw:
        yield raw.replace(b'"', b'\\"')
    if b" " in raw:
        yield raw.replace(b" ", b"+")
    if len(raw) >= SHORT:
        yield from _both_alphabets(_in_base64(raw))


def _broken_needles(secret: str) -> Iterator[bytes]:
    """Of base64 in lines: where one ends within the secret, one of two pieces is whole."""
    raw = secret.encode(errors="surrogatepass")
    for coded in _in_base64(raw) if len(raw) >= SHORT else ():
        half = min(len(coded), _LINE) // 2
        yield from _both_alphabets((coded[:half], coded[half : 2 * half]))


def _both_alphabets(texts: Iterable[bytes]) -> Iterator[bytes]:
    for text in texts:
        yield text
        yield text.translate(bytes.maketrans(b"+/", b"-_"))


def _patterns(secret: str) -> Iterator[bytes]:
    spelled = b"".join(map(_spelled, secret))
    if len(secret) < SHORT:
        yield _AUTHORIZATION + spelled
        return
    yield spelled
    for coded in _in_base64(secret.encode(errors="surrogatepass")):
        yield _BREAKS.join(_spelled(chr(each), in_base64=True) for each in coded)


def _in_base64(raw: bytes) -> Iterator[bytes]:
    """The characters that depend on nothing but the secret, for each place where it may begin."""
    for before in range(3):
        first = -(-before * 8 // 6)
        yield b64encode(b"\0" * before + raw)[first : (before + len(raw)) * 8 // 6]


def _spelled(char: str, *, in_base64: bool = False) -> bytes:
    """A pattern for one character, whoever encoded it."""
    raw = char.encode(errors="surrogatepass")
    code = ord(char)
    percent = b"".join(rb"%(?:25){0,3}" + _hex(each, 2) for each in raw)
    forms = [
        rb"\\{0,8}" + re.escape(raw),
        _BACKSLASHES + b"u" + _hex(code, 4),
        percent,
        b"&#0{0,6}%d;" % code,
        b"&#[xX]0{0,6}" + _hex(code, 1) + b";",
    ]
    if code < 256:
        forms.append(_BACKSLASHES + b"x" + _hex(code, 2))
    if (named := html.escape(char)) != char:
        forms.append(re.escape(named.encode()))
    also = {" ": rb"\+", "+": b"-", "/": b"_"}.get(char)
    if also and (in_base64 or char == " "):
        forms.append(also)
    return b"(?:" + b"|".join(forms) + b")"


def _hex(number: int, digits: int) -> bytes:
    return "".join(
        f"[{digit}{digit.upper()}]" if digit.isalpha() else digit
        for digit in f"{number:0{digits}x}"
    ).encode()
