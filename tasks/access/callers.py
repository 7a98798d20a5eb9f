"""Who may do what. Every face asks here; nothing is allowed that is not named.

A caller is an `Access`: what it may do (`SCOPES`) and which groups it may see. It comes from a
token, from a Django user's permissions, or from an embedder's own authentication.
"""

import hashlib
import logging
from collections.abc import Iterable, Iterator, Set
from dataclasses import dataclass, field, replace
from datetime import timedelta
from hmac import compare_digest
from importlib import import_module
from typing import Any

from django.conf import settings
from django.contrib.auth import get_user, get_user_model
from django.contrib.auth.hashers import check_password, make_password
from django.db import transaction
from django.db.models import QuerySet
from django.db.models.functions import Now
from django.http import HttpRequest

from ..conf import conf
from ..models import OperatorPassword, Token

logger = logging.getLogger("crew.access.callers")

READ = "read"  # see groups and tasks
WRITE = "write"  # create, edit and delete them
OPERATE = "operate"  # pause, resume, retry, reset, cancel, hold, set limits
ADMIN = "admin"  # all of it, and tokens
SCOPES = (READ, WRITE, OPERATE, ADMIN)

# The model permissions that a user needs for each scope; ADMIN takes those of all others too.
PERMISSIONS: dict[str, tuple[str, ...]] = {
    READ: ("crew.view_task",),
    WRITE: ("crew.add_task", "crew.change_task", "crew.delete_task"),
    OPERATE: ("crew.change_task",),
}
PERMISSIONS[ADMIN] = (
    *dict.fromkeys(name for names in PERMISSIONS.values() for name in names),
    "crew.view_token",
    "crew.add_token",
    "crew.change_token",
)


class UserScopes(Set[str]):
    """Those of the scopes that a user's permissions bear.

    Looked up when one is asked for: it takes queries that not every call needs.
    """

    def __init__(self, user: Any, granted: Iterable[str] = SCOPES) -> None:
        self.user = user
        self.granted = frozenset(granted)

    def __contains__(self, scope: object) -> bool:
        if not (scope in self.granted or ADMIN in self.granted) or not self.user.is_active:
            return False
        if self.user.is_superuser:
            return True
        return scope in SCOPES and bool(self.user.has_perms(PERMISSIONS[scope]))

    def __iter__(self) -> Iterator[str]:
        return (scope for scope in SCOPES if scope in self)

    def __len__(self) -> int:
        return sum(1 for _ in self)


@dataclass(frozen=True, slots=True)
class Access:
    """What one caller may do. `group_ids` None means all groups.

    `caller` tells callers apart; `who` is what people call them, for the audit history. It ends
    with its token, in `expires_in` seconds at the latest, and with its session (the key of it).
    """

    caller: str
    scopes: Set[str]
    group_ids: frozenset[str] | None = None
    user: Any = None
    token_id: int | None = None
    who: str = field(default="", compare=False)
    session: str = field(default="", compare=False, repr=False)
    expires_in: float | None = field(default=None, compare=False)

    def may(self, scope: str) -> bool:
        return scope in self.scopes or ADMIN in self.scopes

    def sees(self, group_id: str) -> bool:
        return self.group_ids is None or group_id in self.group_ids

    @property
    def names(self) -> frozenset[str]:
        """Of the user and the token that it ends with (`changes.rights_lost`)."""
        user = getattr(self.user, "pk", None)
        users = [] if user is None else [f"user:{user}"]
        return frozenset(users + ([] if self.token_id is None else [f"token:{self.token_id}"]))

    def only(self, rows: QuerySet[Any], field: str = "group_id") -> QuerySet[Any]:
        """Those of the rows that lie in the caller's groups."""
        if self.group_ids is None:
            return rows
        return rows.filter(**{f"{field}__in": sorted(self.group_ids)})


def everything(caller: str, user: Any = None) -> Access:
    """May do all: no authentication, the fixed token, an embedder's own authentication."""
    return Access(caller, frozenset(SCOPES), user=user)


def of_user(user: Any, session: str | None = None) -> Access:
    """What a Django user's permissions allow, as they are now; by the session with this key."""
    who = _person(user)
    return Access(f"user:{user.pk}", UserScopes(user), None, user, None, who, session or "")


def of_session(key: str) -> Access | None:
    """The access of a session's user; None for a session that has ended.

    It has with a logout, with its time, and with another password.
    """
    request = HttpRequest()
    request.session = import_module(settings.SESSION_ENGINE).SessionStore(key)
    user = get_user(request)
    return of_user(user, key) if user.is_authenticated else None


def of_secret(secret: str) -> Access | None:
    """The access of a token as it is sent; None for one that opens nothing (any more)."""
    if _is_fixed(secret):
        return everything("fixed-token")
    token = _find(digest=digest(secret))
    if token is None or token.kind == Token.Kind.TICKET:
        return None
    _record_use(token)
    return _of_token(token)


def sent_token(header: str) -> str:
    """The token of an `Authorization` header; "" for one that holds none.

    The old UI sends the bare word "Bearer" when it has no token. Basic credentials are for a
    proxy in front of us, which browsers then send with everything.
    """
    header = header.strip(" \t")
    if header == "Bearer" or header.startswith("Basic "):
        return ""
    return header.removeprefix("Bearer ")


def of_stream_secret(secret: str) -> Access | None:
    """The access of a token in a stream's path, which may end up in logs.

    So an API token is refused there; a login token, a ticket (once) and the fixed token pass.
    """
    secret = secret.removeprefix("Bearer ")
    if _is_fixed(secret):
        return everything("fixed-token")
    token = _find(digest=digest(secret))
    if token is None or token.kind == Token.Kind.API:
        return None
    if token.kind == Token.Kind.TICKET:
        return _of_ticket(token, secret)
    return _of_token(token)


def still_valid(access: Access) -> bool:
    """Whether a stream that was opened with this access may stay open.

    It may not once its token or session, or that its ticket was asked for with, ended, or its user
    was disabled, got another password or may not read any more.
    """
    now = _as_now(access)
    return now is not None and now.may(READ)


def _as_now(access: Access) -> Access | None:
    """The access of what this one was opened with; None when that has ended."""
    if access.token_id is not None:
        token = _find(pk=access.token_id)
        return None if token is None else _of_token(token)
    if not isinstance(access.scopes, UserScopes):
        return access
    if access.session:
        now = of_session(access.session)
        if now is None or now.caller != access.caller:
            return None
        return replace(now, scopes=UserScopes(now.user, access.scopes.granted))
    user = get_user_model().objects.filter(pk=access.user.pk).first()
    return None if user is None else replace(access, scopes=UserScopes(user, access.scopes.granted))


@transaction.atomic
def ensure_operator() -> bool:
    """Make the superuser of CREW_AUTH_USERNAME and _PASSWORD, or give it a new password of theirs.

    A password is taken from there once: whoever gives the account another one keeps that, until
    there is another one in the settings too. For the start of a server; several may start at once.
    Returns whether anything was written.
    """
    username, password = conf.CREW_AUTH_USERNAME, conf.CREW_AUTH_PASSWORD
    if not (username and password):
        return False
    users: Any = get_user_model()
    username = users.normalize_username(username)
    user, is_new = users.objects.get_or_create(**{users.USERNAME_FIELD: username})
    is_given = _take_password(username, password, is_new=is_new)
    if is_given and not user.check_password(password):
        user.set_password(password)
    elif user.is_superuser and user.is_staff and user.is_active:
        return False
    user.is_superuser = user.is_staff = user.is_active = True
    user.save(update_fields=["password", "is_superuser", "is_staff", "is_active"])
    logger.info("The operator %s was made, or given what the settings say", username)
    return True


def _take_password(username: str, password: str, *, is_new: bool) -> bool:
    """Whether the password of the settings is one that the account was not given before.

    It may have been, of an account that is older than our notes.
    """
    taken = OperatorPassword.objects.filter(pk=username).first()
    if taken is not None and check_password(password, taken.hash):
        return is_new
    OperatorPassword.objects.update_or_create(
        pk=username, defaults={"hash": make_password(password)}
    )
    return is_new or taken is not None


def prune(most: int) -> int:
    """Delete login tokens and tickets that expired, so many at most; return how many."""
    tickets = Token.objects.filter(kind=Token.Kind.TICKET, expires_at__lt=Now())
    # An hour later: no ticket is left by then that refers to the token.
    expired = Now() - timedelta(hours=1)
    logins = Token.objects.filter(kind=Token.Kind.LOGIN, expires_at__lt=expired)
    count = 0
    for rows in (tickets, logins):
        some = Token.objects.filter(pk__in=list(rows.values_list("pk", flat=True)[: most - count]))
        count += some._raw_delete(some.db) or 0  # None for no ids
    return count


def _is_fixed(secret: str) -> bool:
    fixed = conf.CREW_AUTH_TOKEN
    return bool(fixed) and compare_digest(_bytes(secret), _bytes(fixed))


def _find(**which: Any) -> Any:
    """The token, by one query, with the database's `now`; None if it opens nothing any more."""
    tokens = Token.objects.filter(**which).select_related("user").annotate(now=Now())
    return next((token for token in tokens if _is_usable(token)), None)


def _is_usable(token: Any) -> bool:
    if token.revoked_at is not None or (token.expires_at and token.expires_at <= token.now):
        return False
    if token.user is None:
        return bool(token.kind != Token.Kind.LOGIN)
    if not token.user.is_active:
        return False
    return token.kind != Token.Kind.LOGIN or compare_digest(
        token.session_hash, token.user.get_session_auth_hash()
    )


def _of_token(token: Token) -> Access:
    if token.kind == Token.Kind.LOGIN:
        return Access(
            f"user:{token.user_id}",
            UserScopes(token.user),
            None,
            token.user,
            token.pk,
            _person(token.user),
            expires_in=_left(token),
        )
    who = f"token:{token}"
    access = Access(f"token:{token.pk}", _scopes(token), _groups(token), token.user, token.pk, who)
    return replace(access, expires_in=_left(token))


def _of_ticket(ticket: Any, secret: str) -> Access | None:
    """What a ticket opens, once: nothing any more when that has ended with which it was asked."""
    access = Access(
        ticket.name,
        _scopes(ticket),
        _groups(ticket),
        ticket.user,
        ticket.parent_id,
        session=unsealed(ticket.session, secret),
    )
    now = _as_now(access)
    if now is None or not _use_up(ticket):
        return None
    return replace(access, expires_in=now.expires_in)


def _scopes(token: Token) -> Set[str]:
    scopes = frozenset(token.scopes)
    return scopes if token.user is None else UserScopes(token.user, scopes)


def _groups(token: Token) -> frozenset[str] | None:
    return None if token.group_ids is None else frozenset(token.group_ids)


def _left(token: Any) -> float | None:
    """Seconds, by the database's clock."""
    return None if token.expires_at is None else (token.expires_at - token.now).total_seconds()


def _person(user: Any) -> str:
    return f"user:{user.get_username()}"


def _record_use(token: Any) -> None:
    """Keep the last use to the minute: one write a minute, however busy the token."""
    if token.last_used_at is None or token.last_used_at < token.now - timedelta(minutes=1):
        Token.objects.filter(pk=token.pk).update(last_used_at=Now())


def _use_up(ticket: Token) -> bool:
    """Whether we are the first: of many at once, one changes the row."""
    unused = Token.objects.filter(pk=ticket.pk, revoked_at=None)
    return bool(unused.update(revoked_at=Now(), last_used_at=Now()))


def digest(secret: str) -> str:
    """What is stored of a secret, and looked up: how long that takes tells nothing of it."""
    return hashlib.sha256(_bytes(secret)).hexdigest()


def sealed(text: str, secret: str) -> str:
    """As it may stand in a row: whoever has the row and not the secret reads nothing.

    The pad is used once: no two tickets have one secret.
    """
    return _padded(text.encode(), secret).hex()


def unsealed(text: str, secret: str) -> str:
    return _padded(bytes.fromhex(text), secret).decode()


def _padded(data: bytes, secret: str) -> bytes:
    pad = hashlib.shake_256(b"session\0" + _bytes(secret)).digest(len(data))
    return bytes(a ^ b for a, b in zip(data, pad, strict=True))


def _bytes(secret: str) -> bytes:
    return secret.encode(errors="surrogatepass")
