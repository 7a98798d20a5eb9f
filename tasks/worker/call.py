"""A call of Crew as a value, and the proof that it is one. Pure but for the clock."""

import base64
import hmac
import json
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from ..rules.signing import signing_keys

TOLERANCE = 300  # seconds that a signed call may be old, or ahead of our clock


class BadCall(ValueError):
    """The body is not a call of Crew. Answer it with status 400."""

    status = 400


class Unauthenticated(ValueError):
    """The call is not signed as it must be, or its Authorization is wrong. Answer with 401."""

    status = 401


@dataclass(frozen=True, slots=True)
class Parent:
    """What a parent of the task was given, and what it gave."""

    task_id: str
    worker: str
    input: Any = None
    output: Any = None


@dataclass(frozen=True, slots=True)
class Call:
    """One attempt at a task. `parents` are in the order of the task's `parentIds`.

    `webhook_id`, `sent_at` (Unix seconds) and `attempt` (1 is the first) are None when the
    sender did not say; they can be trusted only if the signature was checked, `attempt` never.
    """

    task_id: str
    worker: str
    input: Any = None
    parents: tuple[Parent, ...] = ()
    webhook_id: str | None = None
    sent_at: int | None = None
    attempt: int | None = None


@dataclass(frozen=True, slots=True)
class Proof:
    """What a call must show. None: nothing; an empty one is refused where it is given."""

    keys: tuple[bytes, ...] | None = None
    authorization: str | None = None

    @classmethod
    def of(cls, secrets: Iterable[str] | None, authorization: str | None) -> "Proof":
        """ValueError for a secret that is none, and for no secrets or an empty text."""
        if authorization is not None and not authorization.strip():
            raise ValueError("authorization is empty: every call without the header would pass")
        return cls(None if secrets is None else signing_keys(secrets), authorization)


def read_call(
    body: bytes,
    headers: Mapping[str, str],
    *,
    secrets: Iterable[str] | None = None,
    authorization: str | None = None,
) -> Call:
    """The call in a request: `body` as received, byte for byte; `headers` in any case.

    With `secrets` ("whsec_" and base64) the Standard Webhooks signature must be by one of them
    and at most 300 s old. With `authorization` that must be the exact `Authorization` header.
    Raises Unauthenticated, BadCall, and ValueError for a secret that is none, for `secrets`
    without any, and for an empty `authorization`.
    """
    return proven_call(body, headers, Proof.of(secrets, authorization))


def proven_call(body: bytes, headers: Mapping[str, str], proof: Proof) -> Call:
    """As `read_call`, for one who made the proof before."""
    found = {name.lower(): value for name, value in headers.items()}
    if proof.authorization is not None:
        _check_authorization(found.get("authorization", ""), proof.authorization)
    if proof.keys is not None:
        _check_signature(body, found, proof.keys)
    return _parse(body, found)


def _check_authorization(given: str, expected: str) -> None:
    # Takes the same time for every wrong value, so that none can be guessed bit by bit.
    if not hmac.compare_digest(given.encode(errors="replace"), expected.encode()):
        raise Unauthenticated("the Authorization header is missing or wrong")


def _check_signature(body: bytes, headers: Mapping[str, str], keys: Iterable[bytes]) -> None:
    id_, sent = headers.get("webhook-id", ""), headers.get("webhook-timestamp", "")
    signatures = headers.get("webhook-signature", "").split()
    if not (id_ and sent and signatures):
        raise Unauthenticated("the call is not signed")
    sent_at = _number(sent)
    if sent_at is None or abs(time.time() - sent_at) > TOLERANCE:
        raise Unauthenticated(f"the call was not sent within {TOLERANCE} s of our clock")
    signed = f"{id_}.{sent}.".encode(errors="replace") + body
    expected = [b"v1," + base64.b64encode(hmac.digest(key, signed, "sha256")) for key in keys]
    # Every pair is compared, whichever matches: the time taken says nothing.
    matches = [
        hmac.compare_digest(given.encode(errors="replace"), ours)
        for given in signatures
        for ours in expected
    ]
    if not any(matches):
        raise Unauthenticated("the call is signed with another secret, or was changed")


def _parse(body: bytes, headers: Mapping[str, str]) -> Call:
    try:
        fields = json.loads(body)
    except (ValueError, RecursionError):
        raise BadCall("the body is not JSON") from None
    if not isinstance(fields, dict):
        raise BadCall("the body is not a JSON object")
    parents = fields.get("parents") or []
    if not isinstance(parents, list):
        raise BadCall("parents is not a list")
    return Call(
        task_id=_text(fields, "taskId"),
        worker=_text(fields, "worker"),
        input=fields.get("input"),
        parents=tuple(map(_parent, parents)),
        webhook_id=headers.get("webhook-id"),
        sent_at=_number(headers.get("webhook-timestamp")),
        attempt=_number(headers.get("x-crew-attempt")),
    )


def _parent(raw: object) -> Parent:
    if not isinstance(raw, dict):
        raise BadCall("a parent is not a JSON object")
    return Parent(_text(raw, "taskId"), _text(raw, "worker"), raw.get("input"), raw.get("output"))


def _text(fields: Mapping[str, Any], name: str) -> str:
    value = fields.get(name)
    if not isinstance(value, str):
        raise BadCall(f"{name} is missing or not a text")
    return value


def _number(text: str | None) -> int | None:
    # No more digits than a time needs: int() of very long ones raises, and takes its time.
    return int(text) if text and text.isascii() and text.isdigit() and len(text) < 16 else None
