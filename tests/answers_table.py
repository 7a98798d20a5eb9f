"""Every answer that a worker may give, odd ones above all, and what becomes of its attempt.

One verdict a row, for both deliverers: `test_answers.py` runs them, `docs/answers.md` shows them.
`python -m tests.answers_table` prints the page's tables.
"""

import gzip
import zlib
from collections.abc import Sequence
from dataclasses import dataclass

LIMIT = 10_000
JSON = b'{"output":1}'
LENGTH = b"Content-Length: 12\r\n"
CHUNKED = b"Transfer-Encoding: chunked\r\n"
ONE_CHUNK = b"c\r\n" + JSON + b"\r\n0\r\n\r\n"
DROPPED = "a byte order mark was dropped"
REPLACED = "unusable characters were replaced by U+FFFD"


def ok(headers: bytes = LENGTH, body: bytes = JSON, start: bytes = b"HTTP/1.1 200 OK") -> bytes:
    return start + b"\r\n" + headers + b"\r\n" + body


def sized(body: bytes, headers: bytes = b"", start: bytes = b"HTTP/1.1 200 OK") -> bytes:
    return ok(b"Content-Length: %d\r\n" % len(body) + headers, body, start)


def interim(status: int, headers: bytes = b"") -> bytes:
    return b"HTTP/1.1 %d Wait\r\n%s\r\n" % (status, headers)


def coded(coding: bytes, body: bytes, status: int = 200, headers: bytes = b"") -> bytes:
    start = b"HTTP/1.1 %d X" % status
    return sized(body, b"Content-Encoding: " + coding + b"\r\n" + headers, start)


def raw_deflate(data: bytes) -> bytes:
    packer = zlib.compressobj(wbits=-15)
    return packer.compress(data) + packer.flush()


def bomb() -> bytes:
    return gzip.compress(bytes(1_000_000))


def limited(status: int, headers: bytes, body: bytes = b"") -> bytes:
    return ok(headers, body, b"HTTP/1.1 %d X" % status)


SLOW = b"Retry-After: 5\r\n"


@dataclass(frozen=True)
class Row:
    """`error` is "" for work that is done, `output` what it gave. `held` is that of a rate limit.

    Without `closes` the worker leaves the connection open behind what it sends, and has the
    deliverer find out by itself where the answer ends.
    """

    comes: str
    sent: bytes | Sequence[bytes]
    error: str = ""
    note: str = ""
    output: str = "1"
    held: float = 0.0
    kept: bool = False
    closes: bool = False

    @property
    def verdict(self) -> str:
        if self.held:
            verdict = f"held for {self.held:g} s, no attempt used: {self.error}"
        elif self.error:
            verdict = f"failed: {self.error}"
        else:
            verdict = "completed" if self.output != "null" else "completed, output null"
        return verdict + (f" (noted: {self.note})" if self.note else "")

    @property
    def line(self) -> str:
        return f"| {self.comes} | {self.verdict} | {'kept' if self.kept else 'closed'} |"


CLOSED = "the worker closed the connection without an answer"
BROKEN = "the connection broke before the answer was complete"
NOT_HTTP = "the worker did not answer in HTTP/1.1"
TOO_LARGE = f"answer larger than {LIMIT} bytes"
TOO_MANY_HEADERS = (
    "the worker did not answer in HTTP, or with headers too large: more than 100 of them, or 64 kB"
)
BAD_HEADER = (
    "the answer has a line among its headers that is none: it has no colon, a name with a space,"
    " or a control character"
)
BAD_CHUNK = "the answer is chunked, and not as HTTP says: the size of a chunk cannot be read"
LONG_CHUNK = "the answer is chunked, and not as HTTP says: a chunk is longer than its size"
BAD_LENGTH = "the answer's Content-Length is no number"
SWITCHED = "the worker switched to another protocol (101), which was not asked for"
NO_GZIP = "the answer is said to be compressed with gzip, and is not"
CUT = "the answer, compressed with gzip, is cut"

TABLES: dict[str, Sequence[Row]] = {
    "Interim answers": [
        Row("`100 Continue` first", interim(100) + ok(), kept=True),
        Row("`102 Processing` first", interim(102) + ok(), kept=True),
        Row("`103 Early Hints`, with headers", interim(103, b"Link: </a>\r\n") + ok(), kept=True),
        Row("a 1xx that nobody knows (`199`)", interim(199) + ok(), kept=True),
        Row("several 1xx in one packet", interim(100) + interim(102) * 3 + ok(), kept=True),
        Row("a 1xx, and the answer after a pause", [interim(102), ok()], kept=True),
        Row("1xx and answer byte by byte", [bytes([b]) for b in interim(102) + ok()], kept=True),
        Row("1,000 of them", interim(103, b"X: y\r\n" * 9) * 1_000 + ok(), kept=True),
        Row(
            "1,001 of them",
            interim(102) * 1_001 + ok(),
            "the worker sent more than 1,000 interim answers",
        ),
        Row(
            "a 1xx with `Connection: close`, and the answer",
            interim(102, b"Connection: close\r\n") + ok(),
        ),
        Row(
            "a 1xx with `Content-Length: 5` and no body",
            interim(102, b"Content-Length: 5\r\n") + ok(),
        ),
        Row(
            "a 1xx that asks to `Retry-After`, and the answer", interim(102, SLOW) + ok(), kept=True
        ),
        Row(
            "`101 Switching Protocols`",
            interim(101, b"Upgrade: x\r\nConnection: upgrade\r\n"),
            SWITCHED,
        ),
        Row("`101` and an answer behind it", interim(101) + ok(), SWITCHED),
        Row("a 1xx, and then the end", interim(102), BROKEN, closes=True),
        Row(
            "a 1xx with a body, which none may have",
            interim(103, LENGTH) + JSON + ok(body=b'{"output":2}'),
            NOT_HTTP,
        ),
        Row("a 1xx in HTTP/1.0", b"HTTP/1.0 102 X\r\n\r\n" + ok()),
    ],
    "Where an answer ends": [
        Row("`Content-Length`", ok(), kept=True),
        Row(
            "`Content-Length: 0` with 200",
            ok(b"Content-Length: 0\r\n", b""),
            output="null",
            kept=True,
        ),
        Row("a body without a length, to the end of the connection", ok(b""), closes=True),
        Row(
            "`Content-Length`, and the connection ends before",
            ok(b"Content-Length: 50\r\n"),
            BROKEN,
            closes=True,
        ),
        Row("more bytes than `Content-Length`", ok() + b"more"),
        Row("a second answer behind the first", ok() + sized(b'{"output":2}')),
        Row(
            "a second answer behind one with `Connection: close`",
            ok(LENGTH + b"Connection: close\r\n") + ok(),
        ),
        Row(
            "`Connection: close`, and the connection stays open",
            ok(LENGTH + b"Connection: close\r\n"),
        ),
        Row("`Connection: Keep-Alive, Close`", ok(LENGTH + b"Connection: Keep-Alive, Close\r\n")),
        Row("`Content-Length` twice, the same", ok(LENGTH * 2)),
        Row("`Content-Length: 12, 12`", ok(b"Content-Length: 12, 12\r\n")),
        Row("`Content-Length: 12,`", ok(b"Content-Length: 12,\r\n")),
        Row(
            "`Content-Length` in 30 digits, zeros first",
            ok(b"Content-Length: %030d\r\n" % 12),
            kept=True,
        ),
        Row(
            "`Content-Length` of 30 digits",
            ok(b"Content-Length: " + b"9" * 30 + b"\r\n"),
            TOO_LARGE,
        ),
        Row("`Content-Length: ,`", ok(b"Content-Length: ,\r\n"), BAD_LENGTH),
        Row("`Content-Length: 12, ␟12`", ok(b"Content-Length: 12, \x1f12\r\n"), BAD_LENGTH),
        Row(
            "`Content-Length` twice, not the same",
            ok(LENGTH + b"Content-Length: 2\r\n"),
            "the answer says twice how long it is, and not the same",
        ),
        Row("`Content-Length: twelve`", ok(b"Content-Length: twelve\r\n"), BAD_LENGTH),
        Row("`Content-Length: -1`", ok(b"Content-Length: -1\r\n"), BAD_LENGTH),
        Row("`Content-Length: +12`", ok(b"Content-Length: +12\r\n"), BAD_LENGTH),
        Row("`Content-Length` without a value", ok(b"Content-Length:\r\n"), BAD_LENGTH),
        Row("`Content-Length` and chunks: the chunks count", ok(LENGTH + CHUNKED, ONE_CHUNK)),
        Row("a longer body than is allowed", sized(b" " * (LIMIT + 1)), TOO_LARGE),
        Row("`204` ends with its headers", b"HTTP/1.1 204 X\r\n\r\n", "HTTP 204", kept=True),
        Row("`204` with a body", sized(JSON, start=b"HTTP/1.1 204 X"), "HTTP 204"),
        Row(
            "`205` with `Content-Length: 0`",
            sized(b"", start=b"HTTP/1.1 205 X"),
            "HTTP 205",
            kept=True,
        ),
        Row(
            "`304`, whatever length it names",
            ok(LENGTH, b"", b"HTTP/1.1 304 X"),
            "HTTP 304: not modified, which says nothing of the task",
        ),
        Row(
            "`302`",
            sized(b"moved", b"Location: /x\r\n", b"HTTP/1.1 302 X"),
            "HTTP 302: redirects are not followed",
            kept=True,
        ),
        Row("`300`", sized(b"choose", start=b"HTTP/1.1 300 X"), "HTTP 300: choose", kept=True),
    ],
    "Chunks": [
        Row("chunks", ok(CHUNKED, ONE_CHUNK), kept=True),
        Row("chunks, byte by byte", [bytes([b]) for b in ok(CHUNKED, ONE_CHUNK)], kept=True),
        Row("extensions", ok(CHUNKED, b"c;a=b;c\r\n" + JSON + b"\r\n0;x\r\n\r\n"), kept=True),
        Row(
            "spaces behind a size", ok(CHUNKED, b"c  \r\n" + JSON + b"\r\n0   \r\n\r\n"), kept=True
        ),
        Row(
            "zeros before a size, capitals",
            ok(CHUNKED, b"000C\r\n" + JSON + b"\r\n000\r\n\r\n"),
            kept=True,
        ),
        Row("trailers", ok(CHUNKED, ONE_CHUNK[:-2] + b"X-Sum: 1\r\n\r\n"), kept=True),
        Row("lines that end in LF", ok(CHUNKED, b"c\n" + JSON + b"\n0\n\n")),
        Row("something behind the last", ok(CHUNKED, ONE_CHUNK + b"0\r\n\r\n")),
        Row(
            "the last, and the end without its empty line", ok(CHUNKED, ONE_CHUNK[:-2]), closes=True
        ),
        Row("none at all", ok(CHUNKED, b"0\r\n\r\n"), output="null", kept=True),
        Row("the end before the last", ok(CHUNKED, ONE_CHUNK[:-5]), BROKEN, closes=True),
        Row("the end in the middle of one", ok(CHUNKED, b"c\r\n{"), BROKEN, closes=True),
        Row("a size that is none", ok(CHUNKED, b"xyz\r\n" + JSON), BAD_CHUNK),
        Row("an empty size", ok(CHUNKED, b"\r\n" + JSON), BAD_CHUNK),
        Row("a size with a sign", ok(CHUNKED, b"-c\r\n" + JSON), BAD_CHUNK),
        Row("a size that no memory holds", ok(CHUNKED, b"f" * 17 + b"\r\n" + JSON), BAD_CHUNK),
        Row(
            "one longer than its size", ok(CHUNKED, b"2\r\n" + JSON + b"\r\n0\r\n\r\n"), LONG_CHUNK
        ),
        Row(
            "more than is allowed",
            ok(CHUNKED, b"2711\r\n" + b" " * 10_001 + b"\r\n0\r\n\r\n"),
            TOO_LARGE,
        ),
        Row("a size beyond that", ok(CHUNKED, b"fffffffff\r\n" + JSON), TOO_LARGE),
        Row(
            "extensions without end",
            ok(CHUNKED, b"c;" + b"x" * 70_000),
            "the answer says more about its chunks than is in them",
        ),
        Row(
            "`Transfer-Encoding: Chunked`",
            ok(b"Transfer-Encoding: Chunked\r\n", ONE_CHUNK),
            kept=True,
        ),
        Row("`Transfer-Encoding: chunked`, twice", ok(CHUNKED * 2, ONE_CHUNK)),
        Row(
            "`Transfer-Encoding: identity` with a length",
            ok(b"Transfer-Encoding: identity\r\n" + LENGTH),
        ),
        Row(
            "`Transfer-Encoding: identity` without",
            ok(b"Transfer-Encoding: identity\r\n"),
            closes=True,
        ),
        Row(
            "`Transfer-Encoding: chunked, identity`",
            ok(b"Transfer-Encoding: chunked, identity\r\n", ONE_CHUNK),
        ),
        Row(
            "in HTTP/1.0 with `Connection: keep-alive`",
            ok(CHUNKED + b"Connection: keep-alive\r\n", ONE_CHUNK, b"HTTP/1.0 200 OK"),
        ),
        Row("a CR alone in an extension", ok(CHUNKED, b"c;a=\rb" + ONE_CHUNK[1:])),
        Row("a CR alone in a trailer", ok(CHUNKED, ONE_CHUNK[:-2] + b"X: a\rb\r\n\r\n")),
        Row(
            "trailers that belong into a head",
            ok(CHUNKED, ONE_CHUNK[:-2] + LENGTH + CHUNKED + SLOW + b"\r\n"),
            kept=True,
        ),
        *(
            Row(f"a size of `{size}`", ok(CHUNKED, size.encode() + ONE_CHUNK[1:]), BAD_CHUNK)
            for size in ("0xc", "+c", "1_2", "c,")
        ),
        Row(
            "`Transfer-Encoding: gzip, chunked`",
            ok(
                b"Transfer-Encoding: gzip, chunked\r\n",
                b"%x\r\n%s\r\n0\r\n\r\n" % (len(gzip.compress(JSON)), gzip.compress(JSON)),
            ),
        ),
        Row(
            "`Transfer-Encoding: chunked, gzip`",
            ok(b"Transfer-Encoding: chunked, gzip\r\n", ONE_CHUNK),
            "Transfer-Encoding says 'chunked', which is no encoding that we know",
        ),
        Row(
            "`Transfer-Encoding: x-odd, chunked`",
            ok(b"Transfer-Encoding: x-odd, chunked\r\n", ONE_CHUNK),
            "Transfer-Encoding says 'x-odd', which is no encoding that we know",
        ),
    ],
    "The head": [
        Row("no reason: `HTTP/1.1 200`", ok(start=b"HTTP/1.1 200"), kept=True),
        Row("HTTP/1.0", ok(start=b"HTTP/1.0 200 OK")),
        Row(
            "HTTP/1.0 with `Connection: keep-alive`",
            ok(LENGTH + b"Connection: keep-alive\r\n", start=b"HTTP/1.0 200 OK"),
            kept=True,
        ),
        Row("HTTP/0.9: the body alone", JSON, NOT_HTTP, closes=True),
        Row("`HTTP/2 200`", ok(start=b"HTTP/2 200"), NOT_HTTP),
        Row("a status of two digits", ok(start=b"HTTP/1.1 20 OK"), NOT_HTTP),
        Row("another protocol", b"SSH-2.0-OpenSSH_9.2p1\r\n", NOT_HTTP),
        Row("empty lines before it", b"\r\n\r\n" + ok()),
        Row("a CR before it", b"\r" + ok()),
        Row("lines that end in LF", ok().replace(b"\r\n", b"\n")),
        Row("folded headers", ok(b"X-Long: a\r\n b\r\n\tc\r\n" + LENGTH)),
        Row("a folded `Content-Length`", ok(b"Content-Length:\r\n 12\r\n")),
        Row("a header without a colon", ok(b"nonsense\r\n" + LENGTH), BAD_HEADER),
        Row("a header with a space in its name", ok(b"Bad Name: 1\r\n" + LENGTH), BAD_HEADER),
        Row("a space before the colon", ok(b"Content-Length : 12\r\nX\t: y\r\n")),
        Row("a first header that is folded", ok(b" X: y\r\n" + LENGTH), BAD_HEADER),
        Row("a CR alone in the reason", ok(start=b"HTTP/1.1 200 O\rK")),
        Row("NUL in a header", ok(b"X: a\0b\r\n" + LENGTH), BAD_HEADER),
        Row("a CR alone in a header", ok(b"X: a\rb\r\n" + LENGTH), BAD_HEADER),
        Row("Latin-1 in a header", ok("X: Grüße\r\n".encode("latin-1") + LENGTH), kept=True),
        Row("100 headers", ok(b"X: 1\r\n" * 99 + LENGTH), kept=True),
        Row("101 headers", ok(b"X: 1\r\n" * 100 + LENGTH), TOO_MANY_HEADERS),
        Row("a header of 70 kB", ok(b"X: " + b"x" * 70_000 + b"\r\n" + LENGTH), TOO_MANY_HEADERS),
        Row(
            "`Upgrade: h2c` offered",
            ok(LENGTH + b"Upgrade: h2c\r\nConnection: Upgrade\r\n"),
            kept=True,
        ),
        Row("the end at once", b"", CLOSED, closes=True),
        Row("the end in the head", b"HTTP/1.1 200 OK\r\nContent-Le", BROKEN, closes=True),
    ],
    "Compressed": [
        Row("gzip", coded(b"gzip", gzip.compress(JSON)), kept=True),
        Row("`x-gzip`, `GZIP`", coded(b"GZIP", gzip.compress(JSON)), kept=True),
        Row(
            "gzip in two members",
            coded(b"gzip", gzip.compress(JSON[:5]) + gzip.compress(JSON[5:])),
            kept=True,
        ),
        Row("gzip, padded with zeros", coded(b"gzip", gzip.compress(JSON) + bytes(20)), kept=True),
        Row("deflate, in zlib's format", coded(b"deflate", zlib.compress(JSON)), kept=True),
        Row("deflate, raw", coded(b"deflate", raw_deflate(JSON)), kept=True),
        Row("gzip twice", coded(b"gzip, gzip", gzip.compress(gzip.compress(JSON))), kept=True),
        Row("gzip of nothing at all", coded(b"gzip", b""), output="null", kept=True),
        Row("gzip that is cut", coded(b"gzip", gzip.compress(JSON)[:-4]), CUT),
        Row("gzip that is none", coded(b"gzip", JSON), NO_GZIP),
        Row(
            "gzip whose sum is wrong",
            coded(b"gzip", gzip.compress(JSON)[:-8] + bytes(8)),
            "the answer, compressed with gzip, is damaged",
        ),
        Row("gzip, and something behind it", coded(b"gzip", gzip.compress(JSON) + b"x"), kept=True),
        Row(
            "deflate that is cut",
            coded(b"deflate", raw_deflate(JSON)[:-2]),
            "the answer, compressed with deflate, is cut",
        ),
        Row("a bomb", coded(b"gzip", bomb()), TOO_LARGE),
        Row("`Content-Encoding: identity`", coded(b"identity", JSON), kept=True),
        Row("`Content-Encoding` without a value", coded(b"", JSON), kept=True),
        Row(
            "`Content-Encoding: br`",
            coded(b"br", JSON),
            "the answer is compressed with br, which was not asked for and is not read",
        ),
        Row(
            "`Content-Encoding: utf-8`",
            coded(b"utf-8", JSON),
            "Content-Encoding says 'utf-8', which is no encoding that we know;"
            " a charset belongs to the Content-Type",
        ),
        Row(
            "`Content-Encoding: odd`",
            coded(b"odd", JSON),
            "Content-Encoding says 'odd', which is no encoding that we know",
        ),
        Row(
            "gzip with another status",
            coded(b"gzip", gzip.compress(b'{"error":"no"}'), 500),
            "HTTP 500: no",
            kept=True,
        ),
        Row(
            "another status, and a body that cannot be read",
            coded(b"gzip", JSON, 500),
            f"HTTP 500: {NO_GZIP}",
        ),
    ],
    "Letters": [
        Row("a byte order mark", sized(b"\xef\xbb\xbf" + JSON), note=DROPPED, kept=True),
        Row(
            "a byte order mark and nothing else",
            sized(b"\xef\xbb\xbf"),
            note=DROPPED,
            output="null",
            kept=True,
        ),
        Row(
            "one byte that is no UTF-8",
            sized(b'{"output":"a\xffb"}'),
            note=REPLACED,
            output='"a\ufffdb"',
            kept=True,
        ),
        Row(
            "Latin-1 that does not say so",
            sized('{"output":"ü"}'.encode("latin-1")),
            note=REPLACED,
            output='"\ufffd"',
            kept=True,
        ),
        Row(
            "`charset=iso-8859-1`",
            sized(
                '{"output":"ü"}'.encode("latin-1"),
                b"Content-Type: text/json; Charset=ISO-8859-1\r\n",
            ),
            note="read as iso8859-1",
            output='"ü"',
            kept=True,
        ),
        Row(
            "UTF-16",
            sized('{"output":"ü"}'.encode("utf-16")),
            note="read as utf-16",
            output='"ü"',
            kept=True,
        ),
        Row(
            "UTF-16 without a mark",
            sized(
                '{"output":"ü"}'.encode("utf-16-le"),
                b'Content-Type: application/json; charset="utf-16"\r\n',
            ),
            note="read as utf-16-le",
            output='"ü"',
            kept=True,
        ),
        Row(
            "`charset=Windows-31J`, as Java says",
            sized('{"output":"①"}'.encode("cp932"), b"Content-Type: a/b; charset=Windows-31J\r\n"),
            note="read as cp932",
            output='"①"',
            kept=True,
        ),
        Row(
            "a charset that nobody knows",
            sized(b'{"output":"\xc3\xbc"}', b"Content-Type: application/json; charset=bogus\r\n"),
            note="the charset 'bogus' is not known: read as UTF-8",
            output='"ü"',
            kept=True,
        ),
        Row(
            "NUL as it is",
            sized(b'{"output":"a\0b"}'),
            note=REPLACED,
            output='"a\ufffdb"',
            kept=True,
        ),
        Row(
            "NUL escaped",
            sized(rb'{"output":"a\u0000b"}'),
            note=REPLACED,
            output='"a\ufffdb"',
            kept=True,
        ),
        Row(
            "a line break inside of a text",
            sized(b'{"output":"a\nb"}'),
            output=r'"a\nb"',
            kept=True,
        ),
        Row("two byte order marks", sized(b"\xef\xbb\xbf" * 2 + JSON), note=DROPPED, kept=True),
        Row(
            "two of UTF-16",
            sized('\ufeff{"output":1}'.encode("utf-16")),
            note="read as utf-16",
            kept=True,
        ),
        Row("a mark behind an empty line", sized(b"\r\n\xef\xbb\xbf" + JSON), kept=True),
        Row("a byte that is no UTF-8 before it", sized(b"\xff" + JSON), note=REPLACED, kept=True),
        Row("one behind it", sized(JSON + b"\xff\n"), note=REPLACED, kept=True),
        Row("NULs behind the end, as in C", sized(JSON + b"\0\0"), kept=True),
    ],
    "Rate limits": [
        Row(
            "429 with `Retry-After: 5`",
            limited(429, SLOW + b"Content-Length: 4\r\n", b"slow"),
            "HTTP 429: slow",
            held=5,
            kept=True,
        ),
        Row(
            "503 with `Retry-After: 5`",
            limited(503, SLOW + b"Content-Length: 4\r\n", b"slow"),
            "HTTP 503: slow",
            held=5,
            kept=True,
        ),
        Row(
            "429 without",
            limited(429, b"Content-Length: 4\r\n", b"slow"),
            "HTTP 429: slow",
            kept=True,
        ),
        Row(
            "429, its body gzip",
            coded(b"gzip", gzip.compress(b"slow"), 429, SLOW),
            "HTTP 429: slow",
            held=5,
            kept=True,
        ),
        Row(
            "429, its body said to be gzip",
            coded(b"gzip", b"slow", 429, SLOW),
            f"HTTP 429: {NO_GZIP}",
            held=5,
        ),
        Row(
            "429, its body `br`",
            coded(b"br", b"slow", 429, SLOW),
            "HTTP 429: the answer is compressed with br, which was not asked for and is not read",
            held=5,
        ),
        Row(
            "429, its body too large",
            limited(429, SLOW, b"x" * (LIMIT + 1)),
            f"HTTP 429: {TOO_LARGE}",
            held=5,
        ),
        Row(
            "429, its body cut",
            limited(429, SLOW + b"Content-Length: 9\r\n", b"sl"),
            f"HTTP 429: {BROKEN}",
            held=5,
            closes=True,
        ),
        Row(
            "429, its chunks broken",
            limited(429, SLOW + CHUNKED, b"xyz\r\n"),
            f"HTTP 429: {BAD_CHUNK}",
            held=5,
        ),
        Row(
            "429 with `Retry-After` twice: the longer",
            limited(429, SLOW + b"Retry-After: 7\r\nContent-Length: 0\r\n"),
            "HTTP 429",
            held=7,
            kept=True,
        ),
        Row(
            "429 with `Retry-After: soon`: the error delay",
            limited(429, b"Retry-After: soon\r\nContent-Length: 0\r\n"),
            "HTTP 429",
            note="Retry-After could not be read, so the error delay counts: 'soon'",
            held=60,
            kept=True,
        ),
        Row(
            "500 with `Retry-After`",
            limited(500, SLOW + b"Content-Length: 0\r\n"),
            "HTTP 500",
            kept=True,
        ),
    ],
}

ROWS = [row for rows in TABLES.values() for row in rows]


def page() -> str:
    lines = []
    for title, rows in TABLES.items():
        lines += [
            f"## {title}",
            "",
            "| what comes | the attempt | the connection |",
            "|---|---|---|",
        ]
        lines += [*(row.line for row in rows), ""]
    return "\n".join(lines)


if __name__ == "__main__":
    print(page())
