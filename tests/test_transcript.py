"""What is kept of a call: readable, cut, and without secrets."""

import pytest

from tasks.rules.transcript import HIDDEN, LONGEST, MOST_KEPT, message


def test_a_message_reads_as_it_went_over_the_wire():
    text = message("POST http://w/x", [("A", "1"), ("B", "2")], b'{"n":1}', most=100)

    assert text == 'POST http://w/x\nA: 1\nB: 2\n\n{"n":1}'


@pytest.mark.parametrize(
    ("body", "shown"),
    [(b"12345", "12345"), (b"123456", "12345\n[the first 5 of 6 bytes]")],
)
def test_a_body_is_cut_at_the_limit_and_says_so(body, shown):
    assert message("HTTP 200", [], body, most=5) == f"HTTP 200\n\n{shown}"


def test_what_is_no_text_can_be_stored_all_the_same():
    text = message("HTTP 200", [("a", "\0")], b"\0\xff" + "é".encode()[:1], most=9)

    assert text == "HTTP 200\na: \ufffd\n\n\ufffd\ufffd\ufffd"


@pytest.mark.parametrize(
    "name", ["Authorization", "authorization", "webhook-signature", "set-cookie"]
)
def test_a_header_with_a_secret_says_only_that_it_was_there(name):
    assert message("HTTP 200", [(name, "canary")], b"", most=5) == f"HTTP 200\n{name}: {HIDDEN}\n\n"


def test_no_text_is_longer_than_what_an_import_takes():
    headers = [("a", "b" * 100_000)]

    assert len(message("HTTP 200", headers, b"x" * (MOST_KEPT + 1), most=MOST_KEPT)) <= LONGEST
