"""Makes tokens, and takes them back.

A secret leaves here once, when its token is made. What a token may do is said in `callers.py`.
"""

import logging
import secrets
from collections.abc import Iterable
from datetime import timedelta
from typing import Any

from django.db import transaction
from django.db.models import Q
from django.db.models.functions import Now
from django.dispatch import Signal

from .. import audit
from ..conf import MOST_DAYS, conf
from ..errors import InvalidInputError
from ..models import Token
from ..rules.names import check_id, check_text
from .callers import SCOPES, Access, UserScopes, digest, sealed

logger = logging.getLogger("crew.access.tokens")

PREFIX = "crew_"
TICKET_SECONDS = 60
MAX_GROUPS = 1_000  # of one token: they are parameters of every list's query

# Sent in the transaction that takes a token back, with its `pk`.
revoked = Signal()


def issue(
    *,
    name: str,
    scopes: Iterable[str] = (),
    group_ids: Iterable[str] | None = None,
    user: Any = None,
    lifetime: timedelta | None = None,
) -> tuple[Token, str]:
    """Make an API token; return it and its secret, which is shown this once.

    With a user it may do only what the user may, too. Raises InvalidInputError for no or an
    unknown scope, an empty name, a bad group id, a lifetime that is over.
    """
    scopes = list(dict.fromkeys(scopes))
    unknown = sorted(set(scopes) - set(SCOPES))
    if unknown or not scopes:
        raise InvalidInputError(
            f"scopes are some of {', '.join(SCOPES)}; got {', '.join(unknown) or 'none'}"
        )
    if lifetime is not None and not timedelta(0) < lifetime < timedelta(days=MOST_DAYS):
        raise InvalidInputError("a token lives from now on, and for a hundred years at most")
    groups = _checked_groups(group_ids)
    with transaction.atomic():
        token, secret = _make(
            name=_checked_name(name), scopes=scopes, group_ids=groups, user=user, lifetime=lifetime
        )
        audit.record("create", audit.Kind.TOKEN, str(token), scopes=scopes)
    logger.info("Token %s (%s) was made: %s", token.pk, token, ", ".join(scopes))
    return token, secret


def revoke(token: Token) -> bool:
    """The token opens nothing from now on; its row stays for the record.

    Return False if it was revoked before.
    """
    with transaction.atomic():
        if not _revoke(Q(pk=token.pk)):
            return False
        _revoke(Q(parent=token.pk))
        verb = "logout" if token.kind == Token.Kind.LOGIN else "revoke"
        audit.record(verb, audit.Kind.TOKEN, str(token))
        revoked.send(Token, pk=token.pk)
    logger.info("Token %s (%s) was revoked", token.pk, token)
    return True


def log_out(access: Access) -> bool:
    """End the login token of this access. False if it has another token, or none."""
    if access.token_id is None:
        return False
    token = Token.objects.filter(pk=access.token_id, kind=Token.Kind.LOGIN).first()
    return token is not None and revoke(token)


def login_token(user: Any) -> str:
    """A token for a user who proved who they are; lives CREW_LOGIN_HOURS."""
    _, secret = _make(
        name=f"login of {user.get_username()}"[:200],
        kind=Token.Kind.LOGIN,
        user=user,
        session_hash=user.get_session_auth_hash(),
        lifetime=timedelta(hours=conf.CREW_LOGIN_HOURS),
    )
    return secret


def stream_ticket(access: Access) -> str:
    """A secret that opens one stream, once, within a minute, with this access.

    Not once that has ended: its token, or the session, whose key is sealed with the secret.
    """
    _, secret = _make(
        name=access.caller[:200],
        kind=Token.Kind.TICKET,
        scopes=[scope for scope in SCOPES if scope in access.scopes],
        group_ids=None if access.group_ids is None else sorted(access.group_ids),
        # An embedder's own user is not ours to look up.
        user=access.user if isinstance(access.scopes, UserScopes) else None,
        parent_id=access.token_id,
        session=access.session,
        lifetime=timedelta(seconds=ticket_seconds(access)),
    )
    return secret


def ticket_seconds(access: Access) -> float:
    """A minute, or as long as the access is there."""
    left = access.expires_in
    return TICKET_SECONDS if left is None else max(0.0, min(TICKET_SECONDS, left))


def _revoke(which: Q) -> int:
    return Token.objects.filter(which, revoked_at=None).update(revoked_at=Now())


def _make(*, lifetime: timedelta | None, session: str = "", **fields: Any) -> tuple[Token, str]:
    secret = PREFIX + secrets.token_urlsafe(32)
    token = Token.objects.create(
        **fields,
        session=sealed(session, secret),
        prefix=secret[:12],
        digest=digest(secret),
        expires_at=None if lifetime is None else Now() + lifetime,
    )
    return token, secret


def _checked_name(name: str) -> str:
    try:
        if not check_text(name, "name").strip():
            raise ValueError("a token needs a name")
    except ValueError as error:
        raise InvalidInputError(str(error)) from error
    return name.strip()


def _checked_groups(group_ids: Iterable[str] | None) -> list[str] | None:
    if group_ids is None:
        return None
    try:
        groups = sorted({check_id(group_id) for group_id in group_ids})
    except ValueError as error:
        raise InvalidInputError(str(error)) from error
    if not 1 <= len(groups) <= MAX_GROUPS:
        raise InvalidInputError(f"a token for some groups names 1 to {MAX_GROUPS} of them")
    return groups
