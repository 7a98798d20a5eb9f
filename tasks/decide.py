"""What a worker's answer means. Pure; the worker protocol lives here and nowhere else."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back from one delivery, or why nothing did.

    `status` is None when there was no complete HTTP answer; then `error` says why, in a
    sentence for the operator. `body` is decoded bytes, never longer than the limit.
    `retry_after` is the header as sent. `seconds` is the time from the send to the last byte.
    """

    status: int | None
    body: bytes = b""
    retry_after: str | None = None
    error: str = ""
    seconds: float = 0.0
