import os
import threading
import uuid

import pytest

from tasks.rules import names
from tasks.rules.names import (
    check_base,
    check_id,
    check_text,
    check_within,
    check_worker,
    worker_url,
)

BASE = "http://127.0.0.1:8090/demo/"


@pytest.mark.parametrize("value", ["a", "A1", "0", "a.b:c_d-e", "x" * 200])
def test_an_id_of_plain_characters_is_accepted(value):
    assert check_id(value) == value


@pytest.mark.parametrize(
    "value",
    ["", " ", "../x", "a/b", "a?b", "%2e", ".", "-a", "x" * 201, "é", "a\n", "a\0", "a b", None, 5],
)
def test_an_id_that_is_not_plain_is_refused(value):
    with pytest.raises(ValueError, match="id must be"):
        check_id(value)


@pytest.mark.parametrize("value", ["", "a", "worker-a", "a/b.c/d~e_f", "x" * 200])
def test_a_worker_is_a_relative_path_of_plain_segments(value):
    assert check_worker(value) == value


BAD_WORKERS = [
    *("../admin", "a/../../b", "%2e%2e/admin", "..%2fadmin"),
    *("https://evil.com/x", "//evil.com/x", "http:evil", "javascript:alert(1)"),
    *("user@evil.com", "a@b", "a:80", "evil.com:80/x"),
    *("a?x=1", "a#f", "a;b", "a\\..\\b"),
    *("a\r\nHost: x", "a\tb", " a", "a%00", "a\0", "a\n"),
    *("é/ü", "x" * 201, ".", "..", "/a", "a//b", "a/", "a/./b", "a/../b", "wk one", "\ud800"),
    *(None, 5, ["a"], b"a"),
]


@pytest.mark.parametrize("value", BAD_WORKERS)
def test_a_worker_that_could_lead_elsewhere_is_refused(value):
    with pytest.raises(ValueError, match="worker must be"):
        check_worker(value)
    with pytest.raises(ValueError, match="worker must be"):
        worker_url(BASE, value)


CONTROL = ["\0", "\x07", "\t", "\n", "\r", "\x1b", "\x7f", "\x80", "\x85", "\x9b", "\x9f"]


@pytest.mark.parametrize("value", ["", "a", "x" * 200, "<script>", "\u202e\u200b😀", "  "])
def test_text_is_taken_as_given(value):
    assert check_text(value, "name") == value


@pytest.mark.parametrize(
    ("value", "why"),
    [
        (5, "name must be text, not 5"),
        (["a"], r"name must be text, not \['a'\]"),
        ("x" * 201, "name is longer than 200 characters"),
        *((f"a{sign}b", "name holds a control character") for sign in CONTROL),
        ("a\ud800", "or a lone surrogate"),
    ],
)
def test_text_that_cannot_be_stored_is_refused(value, why):
    with pytest.raises(ValueError, match=why):
        check_text(value, "name")


def test_an_error_shows_no_more_than_60_characters_of_the_value():
    with pytest.raises(ValueError) as caught:
        check_text("y" * 10_000, "name")

    assert 50 < str(caught.value).count("y") <= 60


@pytest.mark.parametrize(
    ("base", "plain"),
    [
        ("http://h", "http://h/"),
        ("http://h/a", "http://h/a/"),
        ("HTTPS://Worker.Example:8443/Execute/", "https://worker.example:8443/Execute/"),
        ("http://[::1]:80/x%20y", "http://[::1]:80/x%20y/"),
        ("http://my_worker", "http://my_worker/"),
    ],
)
def test_a_base_url_is_made_plain(base, plain):
    assert check_base(base) == plain


@pytest.mark.parametrize(
    "base",
    [
        *("", "h", "//h/", "ftp://h/", "file:///etc/passwd", "http://", "http:///x", "http:/h"),
        *("http://me:secret@h/", "http://me@h/", "http://@h/", "http://h/?q", "http://h/#f"),
        *("http://h/?", "http://h/#", "http://h /", " http://h/", "http://h/\n", "http://h\\x/"),
        *("http://h:99999/", "http://h:0/", "http://h:x/", "http://[::1/", "http://[g::1]/"),
        *("http://h/../x/", "http://h/a/./b", "http://h/%2e%2E/x", "http://h/%zz/", "http://é/"),
        *(None, 5, b"http://h/"),
    ],
)
def test_a_base_url_that_is_not_plain_is_refused(base):
    with pytest.raises(ValueError, match="base URL") as caught:
        check_base(base)

    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("base", "worker", "url"),
    [
        (BASE, "worker-a", "http://127.0.0.1:8090/demo/worker-a"),
        ("http://h", "a/b~c", "http://h/a/b~c"),
        ("https://H:443/x", "a", "https://h:443/x/a"),
    ],
)
def test_a_worker_url_is_base_and_name(base, worker, url):
    assert worker_url(base, worker) == url


def test_a_task_without_a_worker_has_no_url():
    with pytest.raises(ValueError, match="has no worker"):
        worker_url(BASE, "")


@pytest.mark.parametrize(
    "url",
    [
        *("http://127.0.0.1:8090/other/a", "http://127.0.0.1:8090/dem", "http://127.0.0.1/demo/a"),
        *("https://127.0.0.1:8090/demo/a", "http://evil:8090/demo/a", "/demo/a"),
        *("http://u@127.0.0.1:8090/demo/a", "http://127.0.0.1:8090/demo/a?b"),
    ],
)
def test_a_prepared_url_outside_the_base_is_refused(url):
    with pytest.raises(ValueError, match="the worker's URL"):
        check_within(url, BASE)


def test_a_prepared_url_may_leave_the_default_port_out():
    check_within("http://h/a", "http://h:80/")


def test_new_ids_are_uuid7_and_increase_also_across_threads():
    made: list[list[str]] = [[] for _ in range(4)]

    def make(ids):
        ids.extend(names.new_id() for _ in range(2_000))

    threads = [threading.Thread(target=make, args=(ids,)) for ids in made]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert all(ids == sorted(ids) for ids in made)
    assert len({id_ for ids in made for id_ in ids}) == 8_000
    parsed = uuid.UUID(made[0][0])
    assert (parsed.version, parsed.variant, str(parsed)) == (7, uuid.RFC_4122, made[0][0])


def test_new_ids_increase_when_the_clock_goes_back(monkeypatch):
    first = names.new_id()
    monkeypatch.setattr(names.time, "time_ns", lambda: 0)

    second, third = names.new_id(), names.new_id()

    assert first < second < third
    assert check_id(third) == third


@pytest.mark.skipif(not hasattr(os, "fork"), reason="a Unix matter")
def test_a_fork_gives_no_id_that_its_parent_gives():
    names.new_id()  # the randomness for many more is there
    reads, writes = os.pipe()
    child = os.fork()
    if not child:
        os.write(writes, names.new_id().encode())
        os._exit(0)
    os.waitpid(child, 0)

    theirs = os.read(reads, 100).decode()

    assert len(theirs) == 36
    assert theirs[-16:] != names.new_id()[-16:]
