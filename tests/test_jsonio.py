import json
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.rules.jsonio import Document, JSONError, dump, read, safe_text

MIB = 1024 * 1024


def nested(depth, opener=b"[", closer=b"]"):
    return opener * depth + b"0" * (opener[-1:] == b":") + closer * depth


@pytest.mark.parametrize(
    "data",
    [
        b"{}",
        b"null",
        b"0",
        b' \t\r\n{"a": [1, -2.5, 1e3, true, false, null, "x"]} \n',
        b'{"output": {"a": 1}}',
        '"é \\u00e9 \\ud83d\\ude00 😀"'.encode(),
        b'"\\\\u0000"',
        b'{"a": {"a": 1}, "b": {"a": 1}}',
        b'"' + b"[" * 1000 + b'"',
        b'"' + b"," * 200_000 + b'"',
        b'"\\"' + b"[{," * 100_000 + b'"',
    ],
)
def test_plain_json_is_read_as_the_standard_library_reads_it(data):
    assert read(data, max_bytes=MIB) == Document(json.loads(data))


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"", "empty"),
        (b" \n", "empty"),
        (b'{"name":', "not JSON"),
        (b"{} x", "more text after the value"),
        (b"{}{}", "more text after the value"),
        (b"[1,]", "not JSON"),
        (b"{'a': 1}", "not JSON"),
        (b"\x0b1", "not JSON"),
        (b"\xc2\xa01", "not JSON"),
        (b"01", "more text"),
        (b'"\x01"', "not JSON"),
        (b'"\x00"', "not JSON"),
        (b'"a\nb"', "not JSON"),
        (b'"abc', "not JSON"),
        (b'"\\', "not JSON"),
        (b"\xef\xbb\xbf{}", "byte order mark"),
        (b'"\xff"', "not UTF-8 at byte 1"),
        (b'"\xed\xa0\x80"', "not UTF-8"),
        ('{"a":1}'.encode("utf-16"), "not UTF-8"),
        (b"NaN", "NaN is not JSON"),
        (b"[Infinity]", "Infinity is not JSON"),
        (b'{"a":-Infinity}', "-Infinity is not JSON"),
        (b"1e400", "number too large: 1e400"),
        (b"[-1e400]", "number too large: -1e400"),
        (b"1" * 301, "number of more than 300 digits"),
        (b"-0." + b"1" * 300, "number of more than 300 digits"),
        (b'{"a":1,"a":2}', "key 'a' twice"),
        (b'{"x":[{"b":1,"a":1,"b":1}]}', "key 'b' twice"),
        (b'{"a":1,"\\u0061":2}', "key 'a' twice"),
        (b'{"a":["\\u0000"]}', r"NUL or lone surrogate in \$\.a\[0\]"),
        (b'{"a":{"\\u0000":1}}', r"NUL or lone surrogate in a key of \$\.a"),
        (b'"\\ud800"', r"NUL or lone surrogate in \$"),
        (b'["x","\\uDe00\\uD83d"]', r"NUL or lone surrogate in \$\[1\]"),
    ],
)
def test_anything_else_is_refused_with_a_reason(data, why):
    with pytest.raises(JSONError, match=why):
        read(data, max_bytes=MIB)


@pytest.mark.parametrize(
    "number", ["12345678901234567890", "-9007199254740993", "9" * 300, "-" + "9" * 300]
)
def test_whole_numbers_stay_exact(number):
    assert read(number.encode(), max_bytes=MIB).value == int(number)


def test_bytes_are_counted_at_the_limit():
    data = b'"' + b"x" * 98 + b'"'

    assert read(data, max_bytes=100).value == "x" * 98
    with pytest.raises(JSONError, match="larger than 99 bytes"):
        read(data, max_bytes=99)


@pytest.mark.parametrize(("opener", "closer"), [(b"[", b"]"), (b'{"a":', b"}"), (b'[{"a":', b"}]")])
def test_nesting_is_allowed_to_64(opener, closer):
    step = opener.count(b"[") + opener.count(b"{")

    read(nested(64 // step, opener, closer), max_bytes=MIB)
    with pytest.raises(JSONError, match="nested deeper than 64"):
        read(nested(64 // step + 1, opener, closer), max_bytes=MIB)


@settings(max_examples=40, deadline=None)
@given(
    st.recursive(
        st.text('[]{}"\\,a') | st.integers(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text('[]{}"\\:'), inner),
    ),
    st.sampled_from([None, 1]),
)
def test_brackets_in_strings_nest_nothing(value, indent):
    data = json.dumps([value], indent=indent).encode()
    deep = depth([value])

    assert read(data, max_bytes=MIB, max_depth=deep).value == [value]
    with pytest.raises(JSONError, match=f"nested deeper than {deep - 1}$"):
        read(data, max_bytes=MIB, max_depth=deep - 1)


def depth(value):
    if isinstance(value, dict):
        value = list(value.values())
    return 1 + max(map(depth, value), default=0) if isinstance(value, list) else 0


@pytest.mark.parametrize(
    "make",
    [
        lambda count: b"[" + b",".join([b"1"] * (count - 1)) + b"]",
        lambda count: b"{" + b",".join(b'"%d":"a,b\\"["' % i for i in range(count - 1)) + b"}",
        lambda count: b"[" + b",".join([b"[ ]"] * (count - 1)) + b"]",
    ],
)
def test_values_are_counted_at_the_limit(make):
    read(make(1_000), max_bytes=MIB, max_nodes=1_000)
    with pytest.raises(JSONError, match="too many values, more than 1000"):
        read(make(1_001), max_bytes=MIB, max_nodes=1_000)


@pytest.mark.parametrize(
    "data",
    [
        b"[" * 100_000,
        b"[" * 100_000 + b"]" * 100_000,
        b'{"a":' * 100_000,
        b'[{"":' * 100_000,
        b"{" + b",".join(b'"k%d":1' % i for i in range(200_000)) + b"}",
        b"[" + b"[]," * 1_000_000 + b"1]",
        b'["' + b'\\"' * 1_000_000,
        b'"[,' * 700_000,
        b"[" + b" " * 3_000_000,
        b"[" * 65 + b"\\" * 2_000_000,
    ],
    ids=lambda data: data[:8].decode(),
)
def test_hostile_json_is_refused_in_less_than_a_second(data):
    started = time.process_time()

    with pytest.raises(JSONError):
        read(data, max_bytes=4 * MIB)

    assert time.process_time() - started < 1


def test_duplicate_keys_may_be_let_through():
    assert read(b'{"a":1,"a":2}', max_bytes=MIB, duplicates_refused=False).value == {"a": 2}


@pytest.mark.parametrize(
    ("data", "value", "replaced"),
    [
        (b'{"a":["\\u0000b"]}', {"a": ["\ufffdb"]}, True),
        (b'{"\\ud800":1}', {"\ufffd": 1}, True),
        (b'"\\udc00\\ud800"', "\ufffd\ufffd", True),
        (b'"\\ud83d\\ude00"', "😀", False),
        (b'"\\\\u0000"', "\\u0000", False),
        (b'"\\u0001"', "\x01", False),
    ],
)
def test_unsafe_characters_may_be_replaced(data, value, replaced):
    assert read(data, max_bytes=MIB, replace_unsafe=True) == Document(value, replaced)


def test_a_reason_can_be_stored_and_is_short():
    with pytest.raises(JSONError) as caught:
        read(b'{"\\u0000%s":1,"\\u0000%s":2}' % (b"x" * 5000, b"x" * 5000), max_bytes=MIB)

    assert "\0" not in str(caught.value)
    assert len(str(caught.value)) < 200


def test_dump_is_compact_and_strict():
    assert dump({"é": [1, None, 2.5], "n": 10**30}) == f'{{"é":[1,null,2.5],"n":{10**30}}}'
    for number in (float("nan"), float("inf")):
        with pytest.raises(ValueError):
            dump([number])


@pytest.mark.parametrize(
    ("text", "safe"), [("plain é😀", "plain é😀"), ("a\0b\ud800", "a\ufffdb\ufffd"), ("", "")]
)
def test_safe_text_replaces_what_databases_refuse(text, safe):
    assert safe_text(text) == safe


def test_safe_text_is_cut():
    assert safe_text("x" * 5000) == "x" * 4096
    assert safe_text("abc", 2) == "ab"
