"""`./crew attack URL [--token TOKEN]`: what was tried against Crew, tried again on a running site.

Each row is a request, byte by byte, and the statuses that are right; none may be a 5xx, show a
traceback, take longer than 5 seconds, or leave the site unwell. With a token that may do
everything it also sends bad input as somebody who may; it makes one group, and deletes it. Only
for sites of your own. The report is by the items of ASVS 5.
"""

import argparse
import json
import socket
import ssl
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from urllib.parse import quote, urlsplit

GROUP = "crew-attack"
WITHIN = 5.0  # seconds for each answer
LEAKS = (b"Traceback (most recent", b"django/core/", b"SELECT ", b"SyntaxError")
NO = frozenset({400, 401, 403, 404, 405, 408, 411, 413, 414, 415, 429, 431, 501})


@dataclass(frozen=True, slots=True)
class Try:
    """One request. `right` are the statuses that are; 0: closed without an answer."""

    item: str  # of ASVS 5
    what: str
    data: bytes
    right: frozenset[int] = NO


@dataclass(frozen=True, slots=True)
class Site:
    host: str
    port: int
    is_tls: bool
    token: str

    def ask(self, data: bytes) -> bytes:
        """What comes until the other side closes, or has said nothing for a moment."""
        with socket.create_connection((self.host, self.port), WITHIN) as plain:
            connection = _wrapped(plain, self.host) if self.is_tls else plain
            connection.settimeout(WITHIN)
            connection.sendall(data)
            said = b""
            try:
                while b"\r\n\r\n" not in said and (part := connection.recv(65536)):
                    said += part
            except TimeoutError:
                return said or b"HTTP/1.1 599 no answer within 5 s\r\n\r\n"
            except ConnectionError:
                pass
            return said

    def request(self, method: str, path: str, body: bytes = b"", **headers: str) -> bytes:
        """With a `Host`, a length and no second request."""
        lines = [f"{method} {path} HTTP/1.1", f"Host: {self.host}:{self.port}"]
        lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
        if "Transfer_Encoding" not in headers and "Content_Length" not in headers:
            lines += [f"Content-Length: {len(body)}"]
        return "\r\n".join([*lines, "Connection: close", "", ""]).encode("latin-1") + body

    def known(self, method: str, path: str, value: object = None) -> bytes:
        body = b"" if value is None else json.dumps(value).encode()
        about = {"Authorization": f"Bearer {self.token}", "Content_Type": "application/json"}
        return self.request(method, path, body, **about)


def _wrapped(plain: socket.socket, host: str) -> socket.socket:
    return ssl.create_default_context().wrap_socket(plain, server_hostname=host)


def framing(site: Site) -> Iterator[Try]:
    """Heads and bodies that two servers in a row might read in two ways."""
    start = f"POST /login HTTP/1.1\r\nHost: {site.host}:{site.port}\r\nConnection: close\r\n"
    zero = "0\r\n\r\nGET /healthz HTTP/1.1\r\n"
    for what, head in {
        "length and chunked": f"Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n{zero}",
        "two lengths": "Content-Length: 1\r\nContent-Length: 2\r\n\r\nab",
        "a length with a sign": "Content-Length: +2\r\n\r\n{}",
        "a length below zero": "Content-Length: -1\r\n\r\n",
        "a length in hex": "Content-Length: 0x2\r\n\r\n{}",
        "an unknown coding": "Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
        "a coding twice": f"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n{zero}",
        "a chunk of no size": "Transfer-Encoding: chunked\r\n\r\nzz\r\n\r\n",
        "a space before the colon": "Content-Length : 2\r\n\r\n{}",
        "a header without a name": ": x\r\nContent-Length: 0\r\n\r\n",
        "NUL in a header": "X: a\0b\r\nContent-Length: 0\r\n\r\n",
        "100 kB of headers": f"X: {'x' * 100_000}\r\n\r\n",
        "500 headers": "".join(f"X{n}: 1\r\n" for n in range(500)) + "\r\n",
    }.items():
        yield Try("4.2.1", what, (start + head).encode("latin-1"), NO | {0})
    yield Try("4.2.1", "no host", b"GET /healthz HTTP/1.1\r\n\r\n")
    yield Try("4.2.1", "two hosts", b"GET /healthz HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n")
    yield Try("4.2.5", "a path of 9 kB", site.request("GET", f"/{'x' * 9_000}"))
    foreign = b"GET /authcheck HTTP/1.1\r\nHost: evil.example\r\nConnection: close\r\n\r\n"
    yield Try("4.1.2", "a foreign host", foreign)


def bodies(site: Site) -> Iterator[Try]:
    """Long bodies of strangers."""
    for path in ("/login", f"/api/v1/task_group/{GROUP}/tasks/bulk", "/x/tasks/bulk"):
        lines = {"Content_Type": "application/x-ndjson"}
        told = site.request("POST", path, Content_Length="268435456", **lines)
        yield Try("15.2.2", f"256 MiB told of to {path}", told)
        part = b"4000\r\n" + b"x" * 0x4000 + b"\r\n"
        chunked = site.request("POST", path, part, Transfer_Encoding="chunked", **lines)
        yield Try("15.2.2", f"chunks without end to {path}", chunked)


def logins(site: Site) -> Iterator[Try]:
    """Nobody, and who says they are somebody."""
    for token in ("wrong", "", "null", "' OR 1=1 --", "dae4082985ef202439d16f9b25a8823e"):
        data = site.request("GET", "/api/v1/task_groups", Authorization=f"Bearer {token}")
        yield Try("6.3.2", f"the token {token!r}", data)
    yield Try("8.2.1", "no token", site.request("GET", "/api/v1/task_groups"))
    yield Try("14.2.1", "a token in the query", site.request("GET", "/api/v1/task_groups?token=x"))
    body = b'{"username": "admin", "password": "crew"}'
    data = site.request("POST", "/login", body, Content_Type="application/json")
    yield Try("6.3.2", "the old default login", data)
    data = site.request("POST", "/login", b'{"username": {"$ne": 1}, "password": []}')
    yield Try("2.2.1", "a login of objects", data)
    for method in ("TRACE", "CONNECT", "PROPFIND"):
        yield Try("4.1.4", f"the method {method}", site.request(method, "/api/v1/task_groups"))
    page = site.request("GET", "/admin/crew/task/?name__regex=^(a+)%2B$")
    yield Try("8.2.1", "a page of the admin", page, NO | {302})


def websockets(site: Site) -> Iterator[Try]:
    about = {"Upgrade": "websocket", "Sec_WebSocket_Version": "13"}
    key = {"Sec_WebSocket_Key": "dGhlIHNhbXBsZSBub25jZQ=="}
    path = f"/api/v1/task_group/{GROUP}/stream"
    for what, place, headers in (
        ("a wrong token", f"{path}/wrong", key),
        ("a foreign origin", f"{path}/-", key | {"Origin": "https://evil.example"}),
        ("another path", "/nowhere", key),
        ("no key", f"{path}/-", {}),
        ("a short key", f"{path}/-", {"Sec_WebSocket_Key": "x"}),
    ):
        data = site.request("GET", place, **about, **headers)
        data = data.replace(b"Connection: close", b"Connection: Upgrade")
        yield Try("4.4.2", f"a stream with {what}", data)


def bad_input(site: Site) -> Iterator[Try]:
    """Of a caller who may do everything."""
    tasks = f"/api/v1/task_group/{GROUP}/tasks"
    deep = "[" * 100_000
    for what, text in {
        "cut JSON": '{"name":',
        "NaN": '{"input": NaN}',
        "1e400": '{"input": 1e400}',
        "100,000 levels": '{"input": ' + deep,
        "NUL": '{"name": "\\u0000"}',
        "half a character": '{"name": "\\ud800"}',
        "a list": "[]",
        "no UTF-8": '{"name": "\xff"}',
    }.items():
        body = text.encode("latin-1")
        about = {"Authorization": f"Bearer {site.token}", "Content_Type": "application/json"}
        yield Try("2.2.1", what, site.request("POST", tasks, body, **about))
    for name in ("../admin", "//evil.example/x", "http://169.254.169.254/", "a?b", "a\\..\\b"):
        data = site.known("POST", tasks, {"worker": name, "name": "n"})
        yield Try("1.3.6", f"the worker {name}", data)
    for query in ("group__name__regex=(a%2B)%2B", "order=password", "pageSize=-1", "page=9e99"):
        yield Try("2.2.1", f"the filter {query}", site.known("GET", f"/api/v1/failures?{query}"))
    for path in ("%00", "%ff", "..%2f..%2fetc%2fpasswd", quote("a" * 300)):
        yield Try("1.3.6", f"the id {path}", site.known("GET", f"/api/v1/task_group/{path}"))


STRANGERS = (framing, bodies, logins, websockets)


def attack(site: Site) -> list[tuple[Try, str]]:
    """Every try, and what was wrong with its answer; "" for nothing."""
    result = [(each, judged(site, each)) for table in STRANGERS for each in table(site)]
    if site.token:
        site.ask(site.known("POST", "/api/v1/task_groups", {"id": GROUP, "name": GROUP}))
        result += [(each, judged(site, each)) for each in bad_input(site)]
        site.ask(site.known("DELETE", f"/api/v1/task_group/{GROUP}"))
    well = Try("13.1", "it is well after all that", site.request("GET", "/healthz"))
    return [*result, (well, "" if status(site.ask(well.data)) == 200 else "it is not")]


def judged(site: Site, each: Try) -> str:
    started = time.monotonic()
    try:
        said = site.ask(each.data)
    except OSError as error:
        return f"no connection: {error}"
    found = status(said)
    if found not in each.right:
        return f"answered {found}"
    if any(leak in said for leak in LEAKS):
        return "shows its inside"
    return "" if time.monotonic() - started < WITHIN else "took longer than 5 s"


def status(said: bytes) -> int:
    words = said.split(b" ", 2)
    return int(words[1]) if len(words) > 2 and words[1].isdigit() else 0


def report(found: list[tuple[Try, str]]) -> Iterator[str]:
    yield "| ASVS | tried | found |"
    yield "|---|---|---|"
    for each, wrong in sorted(found, key=lambda row: [int(n) for n in row[0].item.split(".")]):
        yield f"| V{each.item} | {each.what} | {wrong or 'ok'} |"


def site_of(url: str, token: str = "") -> Site:
    parts = urlsplit(url)
    is_tls = parts.scheme == "https"
    return Site(parts.hostname or "localhost", parts.port or (443 if is_tls else 80), is_tls, token)


def main() -> int:
    parser = argparse.ArgumentParser(prog="./crew attack", description=__doc__.split("\n\n")[1])
    parser.add_argument("url", help="of a site of your own")
    parser.add_argument("--token", default="", help="one that may do everything")
    options = parser.parse_args()
    found = attack(site_of(options.url, options.token))
    print("\n".join(report(found)))
    return int(any(wrong for _, wrong in found))


if __name__ == "__main__":
    sys.exit(main())
