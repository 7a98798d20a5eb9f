"""Who calls: by a token in the `Authorization` header, as old clients send it (contract 1.2)."""

import ipaddress
from typing import Any

from django.contrib.auth.models import AnonymousUser
from django.http import HttpRequest
from django.utils.module_loading import import_string
from rest_framework.authentication import BaseAuthentication, SessionAuthentication
from rest_framework.exceptions import APIException, AuthenticationFailed, Throttled
from rest_framework.request import Request

from ..conf import conf
from . import callers, wrong_tokens

UNKNOWN_ADDRESS = "0.0.0.0"  # noqa: S104  nothing listens on it


class TokenAuthentication(BaseAuthentication):  # type: ignore[misc]
    """`Authorization: Bearer TOKEN`, in that very case, or the token alone.

    No token at all leaves it to the next class; one that opens nothing is refused. Neither the
    query nor a cookie is looked at.
    """

    def authenticate(self, request: Request) -> tuple[Any, callers.Access] | None:
        secret = callers.sent_token(request.META.get("HTTP_AUTHORIZATION", ""))
        if not secret:
            return None
        found = callers.of_secret(secret)
        if found is None:
            raise refused_token(request._request)
        return found.user or AnonymousUser(), found

    def authenticate_header(self, request: Request) -> str:
        return "Bearer"


def refused_token(request: HttpRequest) -> APIException:
    """What is raised for a token that opens nothing; it is counted."""
    wait = wrong_tokens.seconds_to_wait(network(client_address(request)))
    return (
        Throttled(wait, "too many wrong tokens from this address")
        if wait
        else AuthenticationFailed()
    )


def by_embedder(request: HttpRequest, secret: str) -> callers.Access | None:
    """Who calls, by an embedder's own classes alone, for a stream: `secret` is their token.

    They are asked as for any call, with the token in the `Authorization` header. A cookie goes
    along with whatever page asks, and who has a token may come from any: so it is one or the other.
    """
    if secret != "-":  # noqa: S105
        request.META["HTTP_AUTHORIZATION"] = f"Bearer {secret}"
        request.META.pop("HTTP_COOKIE", None)
        request.__dict__.pop("COOKIES", None)  # if somebody looked before
    for path in conf.CREW_AUTHENTICATION:
        kind = imported(path)
        if issubclass(kind, TokenAuthentication | SessionAuthentication):
            continue
        try:
            found = kind().authenticate(Request(request))
        except APIException:
            return None
        if found is not None:
            return of_embedder(*found)
    return None


def of_embedder(user: Any, auth: Any) -> callers.Access:
    """What a caller that an embedder's class let in may do: all, unless it says otherwise."""
    if isinstance(auth, callers.Access):
        return auth
    return callers.everything(f"user:{getattr(user, 'pk', '')}", user)


def imported(path: str) -> Any:
    """A class by its dotted path; "access." begins a path of this app."""
    if path.startswith("access."):
        path = f"{__name__.rpartition('.access.')[0]}.{path}"
    return import_string(path)


def client_address(request: HttpRequest) -> str:
    """The address of the client, as the outermost of CREW_TRUSTED_PROXIES proxies saw it."""
    header = request.META.get("HTTP_X_FORWARDED_FOR", "")
    return address_behind(header, request.META.get("REMOTE_ADDR") or "")


def address_behind(header: str, peer: str) -> str:
    """The client's, of what `X-Forwarded-For` says and who is connected with us.

    What stands further left in the header was written by the client itself.
    """
    hops = conf.CREW_TRUSTED_PROXIES
    forwarded = header.split(",") if header else []
    given = peer
    if 0 < hops <= len(forwarded):
        given = _without_port(forwarded[-hops].strip())
    try:
        # Without the zone of a link-local one, which no database column takes.
        address = ipaddress.ip_address(given.partition("%")[0])
    except ValueError:
        return UNKNOWN_ADDRESS
    mapped = getattr(address, "ipv4_mapped", None)
    return str(mapped or address)


def network(address: str) -> str:
    """The address that counts for all that one host may have: of IPv6 its /64."""
    given = ipaddress.ip_address(address)
    length = 64 if given.version == 6 else 32
    return str(ipaddress.ip_network((given, length), strict=False).network_address)


def _without_port(given: str) -> str:
    """Some proxies add the port: 192.0.2.1:5678, [2001:db8::1]:5678."""
    if given.startswith("["):
        return given[1:].partition("]")[0]
    return given.partition(":")[0] if given.count(":") == 1 else given
