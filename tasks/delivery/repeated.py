"""Takes our secrets out of what a worker answered, before anybody reads, stores or shows it.

Workers repeat what they were sent: in error pages, in texts of exceptions, in their output.
"""

from collections.abc import Sequence
from dataclasses import replace

from ..rules.answer_reader import HEADERS_READ, Received, add_header
from ..rules.charsets import charset_of, transcoded
from ..rules.decide import Answer
from ..rules.scrubbing import Scrubber
from ..rules.transcript import Transcript

SAID_IN_HEADER = (
    "the answer repeats what was sent to the worker in a header that says how to read it"
)


def out_of_received(scrubber: Scrubber, received: Received) -> tuple[Received, str, bool]:
    """The answer without them, the charset of its body, and whether there were any."""
    headers = _headers(scrubber, received.headers)
    charset = charset_of(received.values.get("content-type", ""))
    body, written = _body(scrubber, received.body, charset)
    error = scrubber.scrub_text(received.error) if received.error else ""
    if headers is None and body is received.body and error == received.error:
        return received, charset, False
    if headers is None:
        return replace(received, body=body, error=error), written, True
    values: dict[str, str] = {}
    for name, value in headers:
        if name in HEADERS_READ:
            add_header(values, name, value)
    if received.error and values != received.values:
        error = SAID_IN_HEADER  # which holds a piece of it, perhaps
    written = written and charset_of(values.get("content-type", ""))
    return replace(received, headers=headers, values=values, body=body, error=error), written, True


def out_of_answer(scrubber: Scrubber, answer: Answer) -> Answer:
    """The same for an answer of a deliverer that has not looked itself."""
    body, charset = _body(scrubber, answer.body, answer.charset)
    clean = replace(
        answer,
        body=body,
        charset=charset,
        error=scrubber.scrub_text(answer.error),
        retry_after=_text(scrubber, answer.retry_after),
        transcript=Transcript(
            _text(scrubber, answer.transcript.request), _text(scrubber, answer.transcript.answer)
        ),
    )
    return replace(clean, repeats=clean != answer)


def _headers(
    scrubber: Scrubber, headers: Sequence[tuple[str, str]]
) -> Sequence[tuple[str, str]] | None:
    """None when there is nothing in them."""
    # Written as an error page may: a short secret counts behind the name of its header.
    whole = "\n".join([f"{name}: {value}" for name, value in headers])
    if scrubber.scrub_text(whole) == whole:
        return None
    return [(name, scrubber.scrub_text(value)) for name, value in headers]


def _body(scrubber: Scrubber, body: bytes, charset: str) -> tuple[bytes, str]:
    """And its charset: "" for what had to be written again, as UTF-8."""
    text, _ = transcoded(body, charset)
    clean = scrubber.scrub(text)
    return (body, charset) if clean is text else (clean, "")


def _text(scrubber: Scrubber, text: str | None) -> str | None:
    return text and scrubber.scrub_text(text)
