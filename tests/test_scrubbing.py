"""No spelling of a secret gets past the search, and what is no secret stays (S6)."""

import base64
import html
import json
from urllib.parse import quote

import pytest

from tasks.rules.scrubbing import HIDDEN, Scrubber, parts_of

AWKWARD = 'Abc+/d"ef=1.2-3_xyz'
PLAIN = "plain-Secret-0123456789"


def coded(secret, before, after):
    return base64.b64encode(b"p" * before + secret.encode() + b"q" * after).decode()


SPELLINGS = {
    "as it is": str,
    "JSON": json.dumps,
    "JSON in JSON": lambda s: json.dumps(json.dumps({"a": s})),
    "slashes escaped": lambda s: json.dumps(s).replace("/", "\\/"),
    "every letter escaped": lambda s: "".join(f"\\u{ord(c):04x}" for c in s),
    "in capitals": lambda s: "".join(f"\\u{ord(c):04X}" for c in s),
    "as Python does": lambda s: "".join(f"\\x{ord(c):02x}" for c in s),
    "for a URL": lambda s: quote(s, safe=""),
    "every letter for a URL": lambda s: "".join(f"%{ord(c):02x}" for c in s),
    "for a URL in capitals": lambda s: "".join(f"%{ord(c):02X}" for c in s),
    "for a URL twice": lambda s: quote(quote(s, safe=""), safe=""),
    "HTML": html.escape,
    "entities": lambda s: "".join(f"&#{ord(c)};" for c in s),
    "entities in hex": lambda s: "".join(f"&#x{ord(c):X};" for c in s),
    "base64 in lines": lambda s: base64.encodebytes(b"x" * 50 + s.encode() + b"y" * 40).decode(),
    "base64 in lines in JSON": lambda s: json.dumps(
        base64.encodebytes(b"x" * 50 + s.encode() + b"y" * 40).decode()
    ),
}


@pytest.mark.parametrize("secret", [AWKWARD, PLAIN])
@pytest.mark.parametrize("spelled", SPELLINGS.values(), ids=SPELLINGS)
def test_s6_a_secret_is_found_however_it_is_spelled(secret, spelled):
    text = f'{{"output":[{spelled(secret)}],"more":1}}'

    clean = Scrubber([secret]).scrub_text(text)

    assert HIDDEN in clean
    assert clean.startswith('{"output":[') and clean.endswith('],"more":1}')


@pytest.mark.parametrize("secret", [AWKWARD, PLAIN])
@pytest.mark.parametrize("before", range(7))
@pytest.mark.parametrize("after", range(3))
def test_s6_a_secret_is_found_in_base64_wherever_it_begins(secret, before, after):
    text = coded(secret, before, after)
    forms = (text, text.translate(str.maketrans("+/", "-_")), quote(text, safe=""))

    for form in (*forms, json.dumps(text).replace("/", "\\/")):
        assert HIDDEN in Scrubber([secret]).scrub_text(f"a {form} b")


def test_what_holds_no_secret_is_the_very_same():
    data = json.dumps({"a": ["%41\\/&amp;\n", AWKWARD[:-1], PLAIN[1:]]}).encode()

    assert Scrubber([AWKWARD, PLAIN]).scrub(data) is data
    assert Scrubber([]).scrub(data) is data


@pytest.mark.parametrize(
    "data",
    [b"\\" * 300_000, b"%41" * 100_000, b"%25" * 100_000, b"\\u0041" * 50_000, b"&#0" * 100_000],
    ids=["backslashes", "percents", "nested", "escapes", "entities"],
)
def test_no_text_takes_the_square_of_its_time(data):
    assert HIDDEN.encode() in Scrubber([PLAIN]).scrub(data + PLAIN.encode() + data)


@pytest.mark.parametrize(
    ("header", "parts"),
    [
        ("Bearer abcdefgh12345", {"abcdefgh12345"}),
        ("abcdefgh12345", {"abcdefgh12345"}),
        ("Bearer abc", {"Bearer abc"}),
        ("abc", {"abc"}),
        ("Basic dXNlcjpwYXNzdzByZC1sb25n", {"dXNlcjpwYXNzdzByZC1sb25n", "passw0rd-long"}),
        ('Token token="canary-tok", n="x"', {"canary-tok", 'Token token="canary-tok", n="x"'}),
        (
            'Digest username="canary-user", nonce=canary-nonce, algorithm=MD5-sess',
            {"canary-user", "canary-nonce"},
        ),
    ],
)
def test_s6_each_part_of_a_header_is_a_secret(header, parts):
    found = set(parts_of(header))

    assert parts <= found
    assert "MD5-sess" not in found
    assert all(len(part) >= 8 for part in found - {header})


def test_s6_a_short_secret_goes_only_with_the_name_of_its_header():
    scrubber = Scrubber(parts_of("abc"))

    clean = scrubber.scrub_text('{"Authorization": "abc", "x": "abcdef"} authorization: abc')

    assert clean == f'{{"Authorization": "{HIDDEN}", "x": "abcdef"}} authorization: {HIDDEN}'
    assert Scrubber(parts_of("Bearer abc")).scrub_text("abc Bearer abc") == f"abc {HIDDEN}"
