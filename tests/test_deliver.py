"""One contract for both deliverers, against a real worker on loopback."""

import base64
import gzip
import json
import socket
import ssl
import threading
import time
import urllib.parse

import pytest
from django.core.exceptions import ImproperlyConfigured
from standardwebhooks.webhooks import Webhook, WebhookVerificationError

from tasks.delivery.calls import Delivery, make_deliverer
from tasks.rules.decide import Answer
from tasks.rules.payload import Parent, payload
from tasks.rules.transcript import Transcript

from . import stub_worker
from .stub_worker import StubWorker, answer, in_turn, raw, redirect

SECRET = "whsec_" + base64.b64encode(b"a" * 24).decode()
OLD_SECRET = "whsec_" + base64.b64encode(b"b" * 32).decode()
LIMIT = 10_000


def make_delivery(task_id="t1", *, attempt=1, worker="worker-a", body=b'{"input":null}'):
    return Delivery(task_id, attempt, worker, body)


class Calls:
    """A started deliverer, and the answers it gave."""

    def __init__(self, deliverer):
        self.deliverer = deliverer
        self.answers: list[tuple[Delivery, Answer]] = []
        self.threads: set[str] = set()
        self._came = threading.Condition()
        deliverer.start(self._on_answer)

    def _on_answer(self, delivery, answer):
        with self._came:
            self.answers.append((delivery, answer))
            self.threads.add(threading.current_thread().name)
            self._came.notify_all()

    def wait(self, count):
        with self._came:
            assert self._came.wait_for(lambda: len(self.answers) >= count, 10)
        return [answer for _, answer in self.answers]

    def one(self, delivery=None):
        before = len(self.answers)
        self.deliverer.send([delivery or make_delivery()])
        return self.wait(before + 1)[before]


def wait_until(condition, seconds=10.0):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.005)


@pytest.fixture(params=["asyncio", "requests"])
def start(request, settings):
    """Start the deliverer towards a worker; stop it after the test and look for doubles."""
    settings.CREW_SLOTS = 64
    settings.CREW_MAX_ANSWER_BYTES = LIMIT
    settings.CREW_DELIVERY_TIMEOUT_SECONDS = 10.0
    settings.CREW_WORKER_AUTHORIZATION_HEADER = None
    settings.CREW_SIGNING_SECRETS = []
    settings.CREW_WORKER_ALLOW_NETS = []
    settings.CREW_WORKER_CA_FILE = ""
    started = []

    def start(base, **more):
        settings.CREW_WORKER_BASE_URL = base
        for name, value in more.items():
            setattr(settings, name, value)
        started.append(Calls(make_deliverer(request.param)))
        return started[-1]

    start.name = request.param
    yield start
    for calls in started:
        calls.deliverer.stop()
        answered = [id(delivery) for delivery, _ in calls.answers]
        assert len(answered) == len(set(answered)), "two answers for one delivery"


@pytest.fixture
def worker():
    with StubWorker() as worker:
        yield worker


# What goes out


def test_a_call_is_a_post_of_the_exact_bytes_to_base_and_worker(start, worker):
    body = '{"input":"é \\u0000","x":1.0}'.encode()

    got = start(worker.url + "execute").one(make_delivery(worker="demo/a~1", body=body))

    request = worker.requests[0]
    assert (request.method, request.path) == ("POST", "/execute/demo/a~1")
    assert request.body == body
    assert request.headers["content-type"] == "application/json"
    assert request.headers["accept"] == "application/json"
    assert request.headers["accept-encoding"] == "identity"
    assert request.headers["user-agent"] == "crew"
    assert request.headers["x-crew-attempt"] == "1"
    assert not {"authorization", "webhook-signature", "cookie"} & request.headers.keys()
    assert (got.status, got.body, got.error) == (200, b'{"output":1}', "")
    assert 0 < got.seconds < 5


@pytest.mark.parametrize("value", ["Bearer abc", "", "plain"])
def test_the_authorization_header_is_sent_verbatim(start, worker, value):
    start(worker.url, CREW_WORKER_AUTHORIZATION_HEADER=value).one()

    assert worker.requests[0].headers["authorization"] == value


@pytest.mark.parametrize("value", ["Bearer a\r\nX-Evil: 1", "a\0b", " Bearer", "Bearer é"])
def test_an_authorization_header_that_cannot_be_sent_stops_the_start(start, value):
    with pytest.raises(ValueError, match="CREW_WORKER_AUTHORIZATION_HEADER") as caught:
        start("http://127.0.0.1:1/", CREW_WORKER_AUTHORIZATION_HEADER=value)

    assert value not in str(caught.value)


def test_each_secret_signs_the_exact_bytes(start, worker):
    calls = start(worker.url, CREW_SIGNING_SECRETS=[SECRET, OLD_SECRET])

    calls.one(make_delivery("a.b", body='{"input":"é"}'.encode()))

    request = worker.requests[0]
    for secret in (SECRET, OLD_SECRET):
        Webhook(secret).verify(request.body, request.headers)
    with pytest.raises(WebhookVerificationError):
        Webhook(SECRET).verify(request.body + b" ", request.headers)
    with pytest.raises(WebhookVerificationError):
        Webhook(base64.b64encode(b"c" * 24).decode()).verify(request.body, request.headers)


def test_the_message_id_is_stable_for_an_attempt_and_holds_no_dot(start, worker):
    calls = start(worker.url)

    for task_id, attempt in [("a.b", 1), ("a.b", 1), ("a.b", 2), ("a.b1", 1)]:
        calls.one(make_delivery(task_id, attempt=attempt))

    ids = [request.headers["webhook-id"] for request in worker.requests]
    assert ids[0] == ids[1]
    assert len(set(ids)) == 3
    assert all(id_.startswith("msg_") and len(id_) == 36 and "." not in id_ for id_ in ids)


@pytest.mark.parametrize("secret", ["", "whsec_", "whsec_YWJj", "whsec_é!", SECRET[6:]])
def test_a_bad_secret_stops_the_start(start, secret):
    with pytest.raises(ValueError, match="CREW_SIGNING_SECRETS"):
        start("http://127.0.0.1:1/", CREW_SIGNING_SECRETS=[secret])


def test_signing_secrets_that_are_no_list_stop_the_start(start):
    for secrets in (map(str, [SECRET]), SECRET, None):
        with pytest.raises(ImproperlyConfigured, match="CREW_SIGNING_SECRETS must be a list"):
            start("http://127.0.0.1:1/", CREW_SIGNING_SECRETS=secrets)


def test_proxies_and_netrc_of_the_environment_are_ignored(start, worker, monkeypatch, tmp_path):
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login me password secret\n")
    monkeypatch.setenv("NETRC", str(netrc))
    with StubWorker() as proxy:
        for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
            monkeypatch.setenv(name, proxy.url)
        monkeypatch.delenv("no_proxy", raising=False)
        monkeypatch.delenv("NO_PROXY", raising=False)

        got = start(worker.url).one()

        assert got.status == 200
        assert proxy.requests == []
    assert "authorization" not in worker.requests[0].headers


def test_cookies_are_not_kept(start, worker):
    worker.behaviour = answer(headers={"Set-Cookie": "a=b; Path=/"})
    calls = start(worker.url)

    calls.one()
    calls.one()

    assert "cookie" not in worker.requests[1].headers


def test_calls_share_a_connection(start, worker):
    calls = start(worker.url)

    for _ in range(5):
        assert calls.one().status == 200

    assert worker.connections == 1


# What counts as an answer


@pytest.mark.parametrize("status", [200, 201, 202, 204, 304, 400, 404, 410, 429, 500, 503])
def test_any_status_is_an_answer(start, worker, status):
    body = b"" if status in (204, 304) else b"text"
    worker.behaviour = answer(status, body, {"Retry-After": "7"})

    got = start(worker.url).one()

    assert (got.status, got.body, got.retry_after, got.error) == (status, body, "7", "")


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_is_an_answer_and_not_followed(start, worker, status):
    with StubWorker() as other:
        worker.behaviour = redirect(other.url, status)

        got = start(worker.url, CREW_WORKER_AUTHORIZATION_HEADER="Bearer x").one()

        assert (got.status, got.body) == (status, b"moved")
        assert other.requests == []
    assert len(worker.requests) == 1


@pytest.mark.parametrize("framing", ["length", "chunked", "close"])
@pytest.mark.parametrize("size", [0, LIMIT, LIMIT + 1])
def test_an_answer_is_read_up_to_the_limit(start, worker, framing, size):
    body = b"x" * size
    worker.behaviour = {
        "length": answer(200, body),
        "chunked": raw(
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
            + (b"%x\r\n%s\r\n" % (size, body) if size else b"")
            + b"0\r\n\r\n"
        ),
        "close": raw(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n" + body),
    }[framing]

    got = start(worker.url).one()

    if size > LIMIT:
        assert (got.status, got.error) == (None, f"answer larger than {LIMIT} bytes")
    else:
        assert (got.status, got.body) == (200, body)


def test_a_failure_counts_though_its_body_does_not(start, worker):
    worker.behaviour = stub_worker.endless_redirect

    got = start(worker.url).one()

    assert (got.status, got.error) == (302, f"answer larger than {LIMIT} bytes")


def test_headers_that_come_twice_are_one_list(start, worker):
    worker.behaviour = raw(
        b"HTTP/1.1 429 Slow\r\nRetry-After: 5\r\nretry-after: 6\r\nContent-Length: 0\r\n\r\n"
    )

    assert start(worker.url).one().retry_after == "5, 6"


def test_an_answer_in_many_pieces_is_one(start, worker):
    text = b"HTTP/1.1 200 OK\r\nRetry-After: 12\r\nTransfer-Encoding: chunked\r\n\r\n"
    pieces = [text[at : at + 1] for at in range(len(text))] + [b"2\r\n{", b"}\r\n0\r\n", b"\r\n"]
    worker.behaviour = in_pieces(pieces)

    got = start(worker.url).one()

    assert (got.status, got.body, got.retry_after) == (200, b"{}", "12")


def in_pieces(pieces):
    def behave(exchange):
        for piece in pieces:
            exchange.send(piece)
            exchange.stopping.wait(0.001)

    return behave


# What is kept of it, for people


def test_the_request_and_the_answer_are_kept_without_secrets(start, worker):
    def echo(exchange):
        got = exchange.request
        said = {"X-Said": "hello", "Set-Cookie": "a=canary"}
        answer(body=got.headers["authorization"].encode() + got.body, headers=said)(exchange)

    worker.behaviour = echo
    calls = start(
        worker.url,
        CREW_WORKER_AUTHORIZATION_HEADER="Bearer canary-7f",
        CREW_SIGNING_SECRETS=[SECRET],
    )

    kept = calls.one(make_delivery(body=b'{"input":"\xc3\xa9"}')).transcript

    head, body = kept.request.split("\n\n")
    lines = head.splitlines()
    assert lines[0] == f"POST {worker.url}worker-a"
    assert {"X-Crew-Attempt: 1", "Authorization: (set, not shown)"} < {*lines}
    assert "webhook-signature: (set, not shown)" in lines
    assert body == '{"input":"é"}'
    head, body = kept.answer.split("\n\n")
    assert head.startswith("HTTP 200\n")
    assert "x-said: hello" in head.splitlines()
    assert body == 'Bearer [redacted]{"input":"é"}'
    assert "canary" not in f"{kept}"


CANARY = "canary-0123456789/AB+"
ECHOES = {
    "raw": str,
    "JSON": lambda text: json.dumps(text),
    "escaped": lambda text: json.dumps(text).replace("/", "\\u002F"),
    "base64": lambda text: base64.b64encode(b"x: " + text.encode()).decode(),
    "URL": lambda text: urllib.parse.quote(text, safe=""),
}


@pytest.mark.parametrize("status", [200, 500])
@pytest.mark.parametrize("spelled", ECHOES.values(), ids=ECHOES)
def test_s6_a_worker_that_repeats_its_credentials_is_not_quoted(start, worker, status, spelled):
    def echo(exchange):
        said = spelled(exchange.request.headers["authorization"])
        headers = {"X-Said": CANARY, "Retry-After": CANARY}
        answer(status, b"x" * 90 + said.encode(), headers)(exchange)

    worker.behaviour = echo
    calls = start(
        worker.url, CREW_WORKER_AUTHORIZATION_HEADER=f"Bearer {CANARY}", CREW_KEEP_CALL_BYTES=100
    )

    got = calls.one()

    assert got.repeats
    assert b"[redacted]" in got.body
    told = urllib.parse.unquote(repr(got).replace("\\u002F", "/"))
    assert "canary" not in told
    assert base64.b64encode(CANARY.encode())[3:-6].decode() not in told


@pytest.mark.parametrize("charset", ["utf-16", "utf-32", "latin1", "cp1252"])
def test_s6_a_secret_is_found_in_any_charset(start, worker, charset):
    text = json.dumps({"output": f"é {CANARY}"}, ensure_ascii=False)
    headers = {"Content-Type": f"application/json; charset={charset}"}
    worker.behaviour = answer(body=text.encode(charset), headers=headers)

    got = start(worker.url, CREW_WORKER_AUTHORIZATION_HEADER=f"Bearer {CANARY}").one()

    assert json.loads(got.body) == {"output": "é [redacted]"}
    assert (got.charset, got.repeats) == ("", True)


@pytest.mark.parametrize("name", ["Content-Encoding", "Transfer-Encoding", "Content-Type"])
def test_s6_a_header_that_cannot_be_read_is_not_quoted(start, worker, name):
    said = f"{name}: {CANARY}\r\n" * 2
    worker.behaviour = raw(f"HTTP/1.1 200 OK\r\n{said}Connection: close\r\n\r\n{{}}".encode())

    got = start(worker.url, CREW_WORKER_AUTHORIZATION_HEADER=f"Bearer {CANARY}").one()

    assert got.repeats
    assert "canary" not in repr(got)


def test_a_worker_that_keeps_its_credentials_is_quoted(start, worker):
    got = start(worker.url, CREW_WORKER_AUTHORIZATION_HEADER=f"Bearer {CANARY}").one()

    assert (got.body, got.repeats) == (b'{"output":1}', False)


def test_bodies_are_kept_up_to_the_limit(start, worker):
    worker.behaviour = answer(body=b"y" * 101)

    kept = (
        start(worker.url, CREW_KEEP_CALL_BYTES=100).one(make_delivery(body=b"x" * 100)).transcript
    )

    assert kept.request.endswith("\n\n" + "x" * 100)
    assert kept.answer.endswith("\n\n" + "y" * 100 + "\n[the first 100 of 101 bytes]")


def test_nothing_is_kept_where_nothing_is_to_be(start, worker):
    assert start(worker.url, CREW_KEEP_CALL_BYTES=0).one().transcript == Transcript()


def test_an_answer_is_kept_as_it_reads(start, worker):
    text = '{"output":"ü"}'
    headers = {"Content-Encoding": "gzip", "Content-Type": "text/json; charset=latin1"}
    worker.behaviour = answer(200, gzip.compress(text.encode("latin-1")), headers)

    assert start(worker.url).one().transcript.answer.endswith(f"\n\n{text}")


@pytest.mark.parametrize("behaviour", [stub_worker.never, stub_worker.close_at_once])
def test_of_a_call_without_an_answer_the_request_is_kept(start, worker, behaviour):
    worker.behaviour = behaviour

    kept = start(worker.url, CREW_DELIVERY_TIMEOUT_SECONDS=0.4).one().transcript

    assert kept.request.startswith(f"POST {worker.url}worker-a\n")
    assert kept.answer is None


@pytest.mark.parametrize("name", ["worker-a", "../no"])
def test_of_a_call_that_was_not_sent_nothing_is_kept(start, name):
    assert start("http://127.0.0.1:1/").one(make_delivery(worker=name)).transcript == Transcript()


# When nothing complete comes back


MISBEHAVIOURS = [
    (stub_worker.endless_body, f"answer larger than {LIMIT} bytes"),
    (stub_worker.gzip_bomb, f"answer larger than {LIMIT} bytes"),
    (stub_worker.endless_headers, "did not answer in HTTP, or with headers too large"),
    (stub_worker.endless_header_line, "did not answer in HTTP, or with headers too large"),
    (raw(b"hello\n"), "did not answer in HTTP"),
    (raw(b"SSH-2.0-OpenSSH_9.2p1\r\n"), "did not answer in HTTP"),
    (raw(b"HTTP/1.1 abc\r\n\r\n"), "did not answer in HTTP"),
    (raw(b"HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\n{}"), "connection broke"),
    (
        raw(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n{}"),
        "connection broke",
    ),
    (raw(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n"), "size of a chunk"),
    (stub_worker.close_at_once, "closed the connection without an answer"),
    (stub_worker.reset, "connection broke before the answer was complete: connection reset"),
]


@pytest.mark.parametrize(("behaviour", "error"), MISBEHAVIOURS)
def test_a_misbehaving_worker_gives_an_error_and_is_called_once(start, worker, behaviour, error):
    worker.behaviour = behaviour
    calls = start(worker.url, CREW_WORKER_AUTHORIZATION_HEADER="Bearer canary")

    got = calls.one()

    assert got.status is None
    assert error in got.error
    assert "canary" not in got.error
    assert got.body == b""
    assert len(worker.requests) == 1
    worker.behaviour = answer()
    assert calls.one().status == 200


@pytest.mark.parametrize(
    "behaviour", [stub_worker.never, stub_worker.drip_body, stub_worker.drip_headers]
)
def test_a_slow_worker_is_cut_at_the_deadline(start, worker, behaviour):
    worker.behaviour = behaviour
    calls = start(worker.url, CREW_DELIVERY_TIMEOUT_SECONDS=0.4)

    got = calls.one()

    assert (got.status, got.error) == (None, "no complete answer within 0.4 s")
    assert 0.3 < got.seconds < 1.4
    worker.behaviour = answer()
    assert calls.one().status == 200


def test_each_call_has_its_own_deadline(start, worker):
    worker.behaviour = stub_worker.never
    calls = start(worker.url, CREW_DELIVERY_TIMEOUT_SECONDS=0.5)

    calls.deliverer.send([make_delivery("first")])
    wait_until(lambda: worker.requests)
    calls.deliverer.send([make_delivery("second"), make_delivery("third")])

    assert all(0.4 < got.seconds < 1.4 for got in calls.wait(3))
    assert calls.answers[0][0].task_id == "first"


@pytest.mark.parametrize("behaviour", [stub_worker.close_at_once, stub_worker.reset])
def test_a_kept_connection_that_breaks_is_not_tried_again(start, worker, behaviour):
    worker.behaviour = in_turn(answer(), behaviour, answer())
    calls = start(worker.url)

    assert calls.one(make_delivery(attempt=1)).status == 200
    assert calls.one(make_delivery(attempt=2)).status is None

    attempts = [request.headers["x-crew-attempt"] for request in worker.requests]
    assert attempts == ["1", "2"]
    assert worker.requests[0].connection == worker.requests[1].connection


def test_a_refused_connection_is_reported(start):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]

    got = start(f"http://127.0.0.1:{port}/").one()

    url = f"http://127.0.0.1:{port}/worker-a"
    assert (got.status, got.error) == (None, f"no connection to {url}: connection refused")


def test_an_unknown_host_is_reported(start, monkeypatch):
    def fail(*args, **kwargs):
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", fail)

    got = start("http://worker.invalid/").one()

    assert got.error == (
        "no connection to http://worker.invalid/worker-a: name or service not known"
    )


# Where a call may go


@pytest.mark.parametrize(
    "name", ["", "../admin", "a/../../b", "//evil.com/x", "a?x=1", "a#f", "a\r\nHost: x", "a%00"]
)
def test_a_bad_worker_name_is_refused_unsent(start, worker, name):
    got = start(worker.url).one(make_delivery(worker=name))

    assert got.status is None
    assert "worker" in got.error
    assert worker.connections == 0


@pytest.mark.parametrize(
    "base", ["", "ftp://127.0.0.1/", "http://me:secret@127.0.0.1/", "http://[::1/"]
)
def test_a_bad_base_url_is_refused_unsent(start, base):
    got = start(base).one()

    assert got.status is None
    assert "base URL" in got.error
    assert "secret" not in got.error


@pytest.mark.parametrize(
    "host",
    [
        "169.254.169.254",
        "2852039166",
        "0xA9FEA9FE",
        "0251.0376.0251.0376",
        "169.254.43518",
        "[::ffff:169.254.169.254]",
        "[64:ff9b::a9fe:a9fe]",
        "[fd00:ec2::254]",
        "0.0.0.0",  # noqa: S104
        "[::]",
        "224.0.0.1",
    ],
)
def test_a_forbidden_address_is_refused_even_as_base_url(start, host):
    got = start(f"http://{host}/").one()

    assert got.status is None
    assert "is an address that workers are never called at" in got.error


def test_a_name_that_changes_to_a_forbidden_address_is_refused(start, worker, monkeypatch):
    address = "127.0.0.1"
    fake_dns(monkeypatch, lambda host: address)
    worker.behaviour = in_turn(lambda exchange: raw(OK)(exchange))
    if start.name == "asyncio":
        monkeypatch.setattr("tasks.delivery.pool._DNS_SECONDS", 0)
    calls = start(f"http://rebind.test:{worker.port}/")

    first = calls.one()
    address = "169.254.169.254"
    second = calls.one()

    assert first.status == 200
    assert "169.254.169.254 is an address that workers are never called at" in second.error
    assert len(worker.requests) == 1


def test_s3_a_name_that_was_public_at_the_start_is_not_called_when_it_is_local(
    start, worker, monkeypatch
):
    address = "8.8.8.8"
    fake_dns(monkeypatch, lambda host: address)
    calls = start(f"http://worker.test:{worker.port}/")
    address = "127.0.0.1"

    got = calls.one()

    assert "127.0.0.1 is a local address" in got.error
    assert "worker.test was a public one at first" in got.error
    assert not worker.requests


@pytest.mark.parametrize(
    "at_first", ["10.1.2.3", "no-such-name.invalid"], ids=["local", "not-known"]
)
def test_a_name_that_is_not_public_at_the_start_may_move(start, worker, monkeypatch, at_first):
    """One that is not known yet is met by its first call."""
    address = at_first
    fake_dns(monkeypatch, lambda host: address)
    calls = start(f"http://worker.test:{worker.port}/")
    address = "127.0.0.1"

    assert calls.one().status == 200


OK = b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\n{}"


def fake_dns(monkeypatch, address_of):
    real = socket.getaddrinfo

    def getaddrinfo(host, port, *args, **kwargs):
        return real(address_of(host) if host.endswith(".test") else host, port, *args, **kwargs)

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)


# TLS


@pytest.fixture(scope="session")
def certificate(tmp_path_factory):
    """A self-signed certificate for 127.0.0.1: the PEM file of it and of its key."""
    import datetime
    import ipaddress

    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "stub worker")])
    now = datetime.datetime.now(datetime.UTC)
    address = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
    cert = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([address]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    folder = tmp_path_factory.mktemp("tls")
    cert_file, key_file = folder / "cert.pem", folder / "key.pem"
    cert_file.write_bytes(cert.public_bytes(serialization.Encoding.PEM))
    key_file.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return str(cert_file), str(key_file)


@pytest.fixture
def tls_worker(certificate):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*certificate)
    with StubWorker(tls=context) as worker:
        yield worker


def test_an_unknown_certificate_is_refused(start, tls_worker):
    got = start(tls_worker.url).one()

    assert got.status is None
    assert f"no connection to {tls_worker.url}worker-a: certificate refused" in got.error
    assert tls_worker.requests == []


def test_a_certificate_of_the_set_authority_is_accepted(start, tls_worker, certificate):
    calls = start(tls_worker.url, CREW_WORKER_CA_FILE=certificate[0])

    assert [calls.one().status for _ in range(2)] == [200, 200]
    assert tls_worker.connections == 1


def test_a_certificate_for_another_name_is_refused(start, tls_worker, certificate):
    base = f"https://localhost:{tls_worker.port}/"

    got = start(base, CREW_WORKER_CA_FILE=certificate[0]).one()

    assert "certificate refused" in got.error
    assert tls_worker.requests == []


def test_a_slow_tls_worker_is_cut_at_the_deadline(start, tls_worker, certificate):
    tls_worker.behaviour = stub_worker.drip_body
    calls = start(
        tls_worker.url,
        CREW_WORKER_CA_FILE=certificate[0],
        CREW_DELIVERY_TIMEOUT_SECONDS=0.4,
    )

    assert calls.one().error == "no complete answer within 0.4 s"


@pytest.mark.parametrize("seconds", [0.4, 60.0])
def test_a_tls_worker_that_never_shakes_hands_is_cut(start, seconds):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        calls = start(
            f"https://127.0.0.1:{listener.getsockname()[1]}/",
            CREW_DELIVERY_TIMEOUT_SECONDS=seconds,
        )
        calls.deliverer.send([make_delivery()])
        hello, _ = listener.accept()
        with hello:
            hello.recv(1)
            if seconds > 1:
                calls.deliverer.stop()

            expected = "no connection to https://" if seconds < 1 else "cancelled by the scheduler"
            assert calls.wait(1)[0].error.startswith(expected)


def test_a_missing_authority_file_stops_the_start(start):
    with pytest.raises(OSError):
        start("https://127.0.0.1:1/", CREW_WORKER_CA_FILE="/nowhere.pem")


# Many at once, cancelling, stopping


def test_every_delivery_of_a_batch_gets_one_answer(start, worker):
    calls = start(worker.url)
    deliveries = [make_delivery(f"t{i}", body=b"%d" % i) for i in range(300)]

    calls.deliverer.send(deliveries)
    calls.wait(300)

    assert sorted(d.task_id for d, _ in calls.answers) == sorted(d.task_id for d in deliveries)
    assert sorted(request.body for request in worker.requests) == sorted(
        delivery.body for delivery in deliveries
    )
    assert threading.current_thread().name not in calls.threads


def test_cancel_ends_all_calls_in_flight_and_leaves_later_ones_alone(start, worker):
    worker.behaviour = stub_worker.never
    calls = start(worker.url)
    calls.deliverer.send([make_delivery(f"t{i}") for i in range(20)])
    wait_until(lambda: len(worker.requests) == 20)

    worker.behaviour = answer()
    calls.deliverer.cancel()
    calls.deliverer.send([make_delivery("later")])
    calls.wait(21)

    by_id = {delivery.task_id: answer for delivery, answer in calls.answers}
    assert by_id.pop("later").status == 200
    assert {(a.status, a.error) for a in by_id.values()} == {(None, "cancelled by the scheduler")}


def test_a_call_cancelled_before_it_began_is_answered_and_not_posted_later(start, worker):
    worker.behaviour = stub_worker.never
    calls = start(worker.url, CREW_SLOTS=1)

    calls.deliverer.send([make_delivery(f"t{i}") for i in range(50)])
    calls.deliverer.cancel()
    calls.wait(50)
    calls.deliverer.stop()

    assert {answer.error for _, answer in calls.answers} == {"cancelled by the scheduler"}
    assert len(worker.requests) <= 1  # the one that had the slot may have gone out


def test_cut_ends_the_connections_of_the_calls_it_names_and_of_no_others(start, worker):
    gone, release = [], threading.Event()

    def behave(exchange):
        """Answers when it is released; says so when the caller has hung up before."""
        if stub_worker.hung_up(exchange, release):
            gone.append(json.loads(exchange.request.body))
        else:
            answer()(exchange)

    worker.behaviour = behave
    calls = start(worker.url)
    twice = [make_delivery("t0", attempt=n, body=b'"t0 %d"' % n) for n in (1, 2)]
    calls.deliverer.send([*twice, *(make_delivery(f"t{i}", body=b'"t%d"' % i) for i in (1, 2))])
    wait_until(lambda: len(worker.requests) == 4)

    calls.deliverer.cut({("t0", 1), ("t2", 1), ("never sent", 1)})
    calls.wait(2)
    wait_until(lambda: sorted(gone) == ["t0 1", "t2"])
    release.set()
    calls.wait(4)

    result = {delivery.key: (a.status, a.error, a.may_run) for delivery, a in calls.answers}
    cut, answered = (None, "cancelled by the scheduler", True), (200, "", False)
    assert result == {("t0", 1): cut, ("t0", 2): answered, ("t1", 1): answered, ("t2", 1): cut}


@pytest.mark.parametrize(
    ("behaviour", "may_run"),
    [
        (answer(), False),
        (answer(500, b"no"), False),
        (stub_worker.never, True),
        (raw(b""), True),
        (raw(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{"), True),
        (raw(b"what is this"), True),
    ],
    ids=["answered", "failed", "timeout", "closed", "broken", "not http"],
)
def test_an_answer_says_whether_the_worker_may_still_be_at_it(start, worker, behaviour, may_run):
    worker.behaviour = behaviour

    assert start(worker.url, CREW_DELIVERY_TIMEOUT_SECONDS=1.0).one().may_run is may_run


def test_what_never_went_out_does_not_run(start):
    assert start("http://127.0.0.1:9/").one().may_run is False


def test_stop_answers_what_is_in_flight_and_ends_the_threads(start, worker):
    before = set(threading.enumerate())
    worker.behaviour = stub_worker.never
    calls = start(worker.url)
    calls.deliverer.send([make_delivery(f"t{i}") for i in range(5)])
    wait_until(lambda: len(worker.requests) == 5)

    calls.deliverer.stop()

    assert [answer.error for _, answer in calls.answers] == ["cancelled by the scheduler"] * 5
    ours = [t for t in set(threading.enumerate()) - before if t.name.startswith("crew-deliver")]
    assert ours == []
    with pytest.raises(RuntimeError, match="not running"):
        calls.deliverer.send([make_delivery()])


def test_a_bug_in_a_call_still_gives_an_answer(start, worker, monkeypatch, caplog):
    def fail(self, delivery):
        raise KeyError("bug")

    monkeypatch.setattr("tasks.delivery.calls.CallRules.headers", fail)

    got = start(worker.url).one(make_delivery("t7"))

    assert (got.status, got.error) == (None, "not delivered: KeyError")
    assert "t7" in caplog.text


def test_a_callback_that_raises_costs_no_other_answer(worker, start, caplog):
    worker.behaviour = in_turn(stub_worker.never, answer())
    calls = start(worker.url, CREW_DELIVERY_TIMEOUT_SECONDS=0.3)
    taken = calls._on_answer
    calls.deliverer.stop()

    def take(delivery, answer):
        taken(delivery, answer)
        raise KeyError("bug")

    calls.deliverer.start(take)
    assert calls.one(make_delivery("first")).error == "no complete answer within 0.3 s"
    assert calls.one(make_delivery("second")).status == 200
    worker.behaviour = stub_worker.never
    assert calls.one(make_delivery("third")).error == "no complete answer within 0.3 s"


@pytest.mark.parametrize("size", [100_000, 5_000_000])
def test_an_answer_that_comes_before_the_whole_call_was_read_is_taken(start, worker, size):
    worker.reads_bodies = False
    worker.behaviour = stub_worker.answer_early

    calls = start(worker.url)
    got = calls.one(make_delivery(body=b" " * size))
    began = time.monotonic()
    calls.deliverer.stop()

    assert (got.status, got.body) == (413, b"too large")
    # The rest of the body is never read; stopping must not wait until it is.
    assert time.monotonic() - began < 10


# What needs no network


@pytest.mark.parametrize("name", ["", "httpx", "tasks.nothing.Deliverer"])
def test_an_unknown_deliverer_is_refused(name):
    with pytest.raises(ImportError):
        make_deliverer(name)


def test_a_deliverer_can_be_named_by_its_path():
    assert type(make_deliverer("tasks.delivery.threads.RequestsDeliverer")).__name__ == (
        "RequestsDeliverer"
    )


def test_payload_splices_json_texts_undecoded():
    parents = [Parent("A1", "wk one", '{"a": 1.0}', None), Parent('q"', "", None, "[1e5]")]

    body = payload("A2", "wk-two", '{"é": 12345678901234567890}', parents)

    assert (
        body
        == (
            '{"input":{"é": 12345678901234567890},"worker":"wk-two","parents":['
            '{"taskId":"A1","worker":"wk one","input":{"a": 1.0},"output":null},'
            '{"taskId":"q\\"","worker":"","input":null,"output":[1e5]}],"taskId":"A2"}'
        ).encode()
    )
    assert json.loads(payload("t", "w", None, [])) == {
        "input": None,
        "worker": "w",
        "parents": [],
        "taskId": "t",
    }
