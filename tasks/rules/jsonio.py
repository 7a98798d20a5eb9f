"""The one strict reader of JSON from outside, and the writer of ours. Pure.

Whoever sends JSON (an API client, a worker, an import) may be hostile: every limit is checked
before the work that it bounds.
"""

import math
import re
from array import array
from collections.abc import Callable
from dataclasses import dataclass
from decimal import Context, Decimal
from itertools import accumulate, product
from json.decoder import JSONDecodeError, JSONDecoder
from json.encoder import (  # type: ignore[attr-defined]
    JSONEncoder,
    c_make_encoder,
    encode_basestring,
    encode_basestring_ascii,
)
from typing import Any, NoReturn

MAX_DIGITS = 300
# So many zeros in a row are in each number of more digits that was ever read: it was a float,
# which has 17 others at most.
MANY_ZEROS = "0" * 100
_MOST_WRITTEN_OUT = 1_000  # numbers, of 300 bytes each

# What PostgreSQL stores in no text: NUL, and halves of a pair.
UNSAFE = re.compile("[\x00\ud800-\udfff]")
_UNSAFE_ESCAPE = re.compile(rb"\\u(?:0000|[dD][89a-fA-F])")
# A quote always matches, closed or not, and gives nothing back: no quadratic search.
_STRING = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"?', re.DOTALL)
_STRING_OR_NUMBER = re.compile(r'"[^"\\]*+(?:\\.[^"\\]*+)*+"?|-?[0-9][0-9.eE+-]*+', re.DOTALL)
_EXACT = Context(prec=200_000)  # more than PostgreSQL's numbers have
_EMPTY = re.compile(rb"\[\s*\]|\{\s*\}")
_NOT_BRACKETS_OR_QUOTES = bytes(set(range(256)) - set(b'[]{}"'))
_STEPS = bytes.maketrans(b"[{]}", b"\x01\x01\xff\xff")  # one down, one up again
_SPACE = " \t\r\n"


class JSONError(ValueError):
    """Not the JSON we take; the text says why and, where it can, at which path."""


@dataclass(frozen=True, slots=True)
class Document:
    """`replaced` says that U+FFFD stands where a NUL or a lone surrogate was."""

    value: Any
    replaced: bool = False


def read(
    data: bytes,
    *,
    max_bytes: int,
    duplicates_refused: bool = True,
    replace_unsafe: bool = False,
    max_depth: int = 64,
    max_nodes: int = 100_000,
) -> Document:
    """With `replace_unsafe` texts may also hold control characters as they are, NUL among them."""
    if len(data) > max_bytes:
        raise JSONError(f"larger than {max_bytes} bytes")
    # Nothing shorter than a limit can pass it, so the ordinary small document skips the scan.
    if len(data) > max_depth:
        _check_shape(data, max_depth, max_nodes)
    scan = _SCANNERS[duplicates_refused, len(data) > MAX_DIGITS, replace_unsafe]
    value = _decode(_text(data), scan)
    is_escaped = b"\\u" in data and _UNSAFE_ESCAPE.search(data)
    if is_escaped or (replace_unsafe and b"\0" in data):
        return _without_unsafe(value, replace_unsafe)
    return Document(value)


# What a JSONEncoder creates for each value. That costs three times as much as to write a small one.
_pieces = c_make_encoder(
    None, JSONEncoder().default, encode_basestring, None, ":", ",", False, False, False
)


def dump(value: Any) -> str:
    """Compact JSON text. ValueError for NaN and infinity, which JSON does not have."""
    return encode_basestring(value) if isinstance(value, str) else "".join(_pieces(value, 0))


def quote(text: str | None) -> str:
    """The same of a text alone, or null, in ASCII."""
    return "null" if text is None else encode_basestring_ascii(text)


def for_store(text: str) -> str:
    """JSON of ours as it is stored: 1e+16 as 10000000000000000.0.

    PostgreSQL keeps a fraction, if only of 0, but no exponent, and would give back an integer.
    Of a great many such numbers it does, and they are as large.
    """
    # One letter is found much faster than two.
    is_meant = "+" in text and 0 < text.count("e+") <= _MOST_WRITTEN_OUT
    return _STRING_OR_NUMBER.sub(_written_out, text) if is_meant else text


def from_store(text: str) -> str:
    """JSON of ours as a database gives it back, without numbers longer than `read` takes.

    PostgreSQL writes all digits of 1e300 and of 1e-300.
    """
    return _STRING_OR_NUMBER.sub(_with_exponent, text) if MANY_ZEROS in text else text


def safe_text(text: str, limit: int = 4096) -> str:
    """`text` as every database takes it: cut, U+FFFD for NUL and lone surrogates."""
    return UNSAFE.sub("\ufffd", text[:limit])


def _written_out(found: re.Match[str]) -> str:
    text = found[0]
    return text if text[0] == '"' or "e+" not in text else f"{Decimal(text):f}.0"


def _with_exponent(found: re.Match[str]) -> str:
    text = found[0]
    is_float = "." in text or len(text.removeprefix("-")) > MAX_DIGITS
    if text[0] == '"' or not is_float or MANY_ZEROS not in text:
        return text
    return f"{_EXACT.create_decimal(text).normalize(_EXACT):e}"


def _text(data: bytes) -> str:
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        raise JSONError(f"not UTF-8 at byte {error.start}") from None
    if text.startswith("\ufeff"):
        raise JSONError("begins with a byte order mark")
    return text


def _decode(text: str, scan: Callable[[str, int], tuple[Any, int]]) -> Any:
    stripped = text.strip(_SPACE)
    if not stripped:
        raise JSONError("empty")
    try:
        value, end = scan(stripped, 0)
    except StopIteration as stop:
        raise JSONError(f"not JSON: no value at character {stop.value}") from None
    except JSONDecodeError as error:
        raise JSONError(f"not JSON: {error.msg} at character {error.pos}") from None
    if end != len(stripped):
        raise JSONError(f"not JSON: more text after the value, at character {end}")
    return value


def _check_shape(data: bytes, max_depth: int, max_nodes: int) -> None:
    """Depth and number of values, counted by punctuation: before anything recurses or allocates."""
    openers = data.count(b"[") + data.count(b"{")
    maybe_deep = openers > max_depth
    maybe_many = len(data) > max_nodes and openers + data.count(b",") >= max_nodes
    if not (maybe_deep or maybe_many):
        return
    if maybe_deep:
        _check_depth(_brackets(data), max_depth, max_nodes)
    if maybe_many and _count_values(_STRING.sub(b"", data)) > max_nodes:
        raise JSONError(f"too many values, more than {max_nodes}")


def _brackets(data: bytes) -> bytes:
    """Those that are in no string, up to the first byte that makes the text no JSON."""
    if b"\\" in data:
        data = data.replace(b"\\\\", b"").replace(b'\\"', b"")
    # Quotes that meet once all between them is gone change nothing for what stands around them.
    few = data.translate(None, _NOT_BRACKETS_OR_QUOTES).replace(b'""', b"")
    return _STRING.sub(b"", few)


def _check_depth(brackets: bytes, max_depth: int, max_nodes: int) -> None:
    # Further brackets than these mean too many values, which is found without a walk.
    steps = array("b", brackets[: 2 * max_nodes + max_depth].translate(_STEPS))
    if max(accumulate(steps), default=0) > max_depth:
        raise JSONError(f"nested deeper than {max_depth}")


def _count_values(bare: bytes) -> int:
    openers = bare.count(b"[") + bare.count(b"{")
    return 1 + bare.count(b",") + openers - len(_EMPTY.findall(bare))


def _without_unsafe(value: Any, replace: bool) -> Document:
    found: list[str] = []
    clean = _replaced(value, "$", found)
    if found and not replace:
        raise JSONError(f"NUL or lone surrogate in {found[0]}")
    return Document(clean, bool(found))


def _replaced(value: Any, path: str, found: list[str]) -> Any:
    """Recurses no deeper than the depth that has been checked."""
    if isinstance(value, str):
        clean = UNSAFE.sub("\ufffd", value)
        if clean != value:
            found.append(path)
        return clean
    if isinstance(value, list):
        return [_replaced(item, f"{path}[{i}]", found) for i, item in enumerate(value)]
    if isinstance(value, dict):
        return {
            _replaced(key, f"a key of {path}", found): _replaced(
                item, f"{path}.{safe_text(key, 60)}", found
            )
            for key, item in value.items()
        }
    return value


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) != len(pairs):
        seen: set[str] = set()
        twice = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
        raise JSONError(f"key {safe_text(twice, 60)!r} twice in one object")
    return value


def _integer(digits: str) -> int:
    _check_digits(digits)
    return int(digits)


def _float(digits: str) -> float:
    _check_digits(digits)
    value = float(digits)
    if math.isinf(value):
        raise JSONError(f"number too large: {digits[:60]}")
    return value


def _check_digits(digits: str) -> None:
    if len(digits) > MAX_DIGITS and sum(map(str.isdigit, digits)) > MAX_DIGITS:
        raise JSONError(f"number of more than {MAX_DIGITS} digits")


def _constant(name: str) -> NoReturn:
    raise JSONError(f"{name} is not JSON")


def _scanner(
    refuse_duplicates: bool, long_numbers: bool, control_characters: bool
) -> Callable[[str, int], tuple[Any, int]]:
    decoder = JSONDecoder(
        strict=not control_characters,
        object_pairs_hook=_object if refuse_duplicates else None,
        parse_int=_integer if long_numbers else int,
        parse_float=_float,
        parse_constant=_constant,
    )
    scan: Callable[[str, int], tuple[Any, int]] = decoder.scan_once  # type: ignore[attr-defined]
    return scan


_SCANNERS = {chosen: _scanner(*chosen) for chosen in product((True, False), repeat=3)}
