"""What every route has in common: who calls, the strict body, the answer, the errors.

The crew v1 routes answer errors as plain text, as the old system did (contract 1.1); the routes
that are ours as `application/problem+json` (RFC 9457). Nothing here depends on the host project's
`REST_FRAMEWORK` settings.
"""

import logging
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from django.core.exceptions import BadRequest, SuspiciousOperation
from django.http import HttpRequest, HttpResponse, HttpResponseBase, UnreadablePostError
from django.utils.cache import patch_vary_headers
from drf_spectacular.openapi import AutoSchema
from rest_framework.authentication import BaseAuthentication, SessionAuthentication
from rest_framework.exceptions import (
    APIException,
    AuthenticationFailed,
    MethodNotAllowed,
    NotAuthenticated,
    PermissionDenied,
    UnsupportedMediaType,
)
from rest_framework.negotiation import BaseContentNegotiation
from rest_framework.request import Request
from rest_framework.views import APIView, set_rollback

from .. import audit
from ..access import callers, origins
from ..access.callers import Access
from ..access.http import client_address, imported, of_embedder
from ..conf import conf
from ..errors import ConflictError, CrewError, InvalidInputError, NotFoundError
from ..models import TaskGroup
from ..redact import one_line
from ..rules import spelling
from ..sql.patience import is_outage, is_refusal, refusal
from ..store import key_warnings
from ..store.memory_budget import NoRoomError
from . import query
from .answers import JSONRenderer, NoParser, json_answer, problem, text
from .body import Body, TooLargeError

log = logging.getLogger("crew.api.base")

STATUSES: dict[type[CrewError], int] = {
    InvalidInputError: 400,
    NotFoundError: 404,
    ConflictError: 409,
}
JSON_TYPE = "application/json"
FORMS = {"application/x-www-form-urlencoded", "multipart/form-data", "text/plain"}
LONGEST_ERROR = 600  # characters


class Negotiation(BaseContentNegotiation):  # type: ignore[misc]
    """JSON, whatever the client says it takes: the old Crew never looked (contract 1.1)."""

    def select_parser(self, request: Request, parsers: Sequence[Any]) -> Any:
        return parsers[0]

    def select_renderer(
        self, request: Request, renderers: Sequence[Any], format_suffix: str | None = None
    ) -> tuple[Any, str]:
        return renderers[0], renderers[0].media_type


class TokenSchema(AutoSchema):
    """Describes a route; all but the open ones take a token with a scope."""

    def get_description(self) -> str:
        scope = self.view.needs.get(self.method)
        words = super().get_description()
        return f"{words}\n\nNeeds scope `{scope}`." if scope else words

    def get_auth(self) -> list[dict[str, list[str]]]:
        return [] if self.view.is_open else [{"token": []}]


class CrewView(APIView):  # type: ignore[misc]
    """A route of the API.

    `needs` names the scope that each method asks for, "" for none; a method that is not in it is
    not allowed.
    `takes` names the parameters that each method knows, `known` what the call may hold.
    `is_v1` says that errors are written as the old Crew wrote them, and that the Content-Type and
    most unknown names are ignored: `ignored` holds these, and `X-Crew-Ignored` tells them. Ours
    refuse them, and types that `reads` does not name. `warned` is what `X-Crew-Warning` tells.
    `is_repeatable`: an Idempotency-Key is looked at. `is_guarded`: so is If-Match.
    `max_body` names the setting that limits the body.
    """

    needs: Mapping[str, str] = {}
    is_v1 = True
    is_open = False
    is_repeatable = False
    is_guarded = False
    max_body = "CREW_MAX_BODY_BYTES"
    max_nodes = 100_000
    takes: Mapping[str, Sequence[str]] = {}
    # A body without a type is no form: browsers name one for every form they send.
    reads: Collection[str] = (JSON_TYPE, "")
    sent: Body | None = None
    known: list[str]
    ignored: list[str]
    warned: list[str]

    schema: Any = TokenSchema()
    content_negotiation_class = Negotiation
    renderer_classes = (JSONRenderer,)
    parser_classes = (NoParser,)
    throttle_classes: Sequence[Any] = ()
    permission_classes: Sequence[Any] = ()
    versioning_class = None
    http_method_names = ("get", "post", "put", "delete")

    # --- Who calls -------------------------------------------------------------------------

    def dispatch(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        """What the call does is recorded as the caller's, once `check_permissions` knows them.

        A HEAD is a GET whose answer is not sent; an OPTIONS only tells the methods.
        """
        if request.method == "OPTIONS":
            return self.methods_listed()
        if request.method == "HEAD":
            request.method = "GET"
            return _without_body(self.dispatch(request, *args, **kwargs))
        self.known, self.ignored = [], []
        with audit.nobody(), key_warnings.gathered() as self.warned:
            try:
                response: HttpResponseBase = super().dispatch(request, *args, **kwargs)
            finally:
                if self.sent:
                    self.sent.done()
            return response

    def admit(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        """What it answers to the head of a request alone: 200 if it would read the body."""
        setattr(self, str(request.method).lower(), lambda *_, **__: HttpResponse())
        return self.dispatch(request, *args, **kwargs)

    def most_bytes(self, request: HttpRequest) -> int:
        """Of the body of a request that it admits."""
        return int(conf.CREW_MAX_STRANGER_BYTES if self.is_open else getattr(conf, self.max_body))

    def methods_listed(self) -> HttpResponseBase:
        return HttpResponse(status=204, headers={"Allow": self._allow()})

    def _allow(self) -> str:
        methods = self.allowed_methods
        head = ["HEAD"] if "GET" in methods else []
        return ", ".join([*methods, *head, "OPTIONS"])

    def get_authenticators(self) -> list[BaseAuthentication]:
        if self.is_open:
            return []
        return [imported(path)() for path in conf.CREW_AUTHENTICATION]

    def check_permissions(self, request: Request) -> None:
        if self.is_open:
            return
        self.access = self._access(request)
        self._name_actor(request)
        scope = self.needs[request.method]
        if scope and not self.access.may(scope):
            raise PermissionDenied(f"needs scope {scope}")

    def _access(self, request: Request) -> Access:
        if not conf.CREW_AUTHENTICATION:
            _refuse_foreign(request)
            return callers.everything("anyone")
        authenticator = request.successful_authenticator
        if authenticator is None:
            raise NotAuthenticated
        if isinstance(authenticator, SessionAuthentication):
            return callers.of_user(request.user, request._request.session.session_key)
        return of_embedder(request.user, request.auth)

    def _name_actor(self, request: Request) -> None:
        who = self.access.who or self.access.caller
        audit.name(who, user=self.access.user, address=client_address(request))

    def needs_all_groups(self) -> None:
        """Refuse a caller who sees some groups only: what all groups share is not theirs."""
        if self.access.group_ids is not None:
            raise PermissionDenied("this token is for some groups only")

    # --- What is asked ---------------------------------------------------------------------

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        if request.method not in self.allowed_methods:
            raise MethodNotAllowed(request.method)
        super().initial(request, *args, **kwargs)
        if any("\0" in str(part) for part in kwargs.values()):
            raise NotFoundError("404 page not found")  # PostgreSQL could not even look for it
        self._check_names(request)
        if not self.is_v1:
            _refuse_form(request)

    def _check_names(self, request: Request) -> None:
        """Those of the query and of headers; `fields` looks at those of the body."""
        if self.is_open and request.method == "GET":
            return  # whoever asks for a file or for our health may have reasons of their own
        takes = self.takes.get(request.method, ())
        self.known += takes
        if request.method != "GET":
            query.refuse_headers(request, is_guarded=self.is_guarded)
            self.ignored += query.ignored_headers(request, is_repeatable=self.is_repeatable)
        if self.is_v1 and request.method != "DELETE":
            self.ignored += query.ignored(request, takes)
        else:
            query.only(request, takes)

    @property
    def allowed_methods(self) -> list[str]:
        return list(self.needs)

    def fields(
        self, request: Request, names: Sequence[str], *, may_be_empty: bool = False
    ) -> dict[str, Any]:
        """The body's object. Raises InvalidInputError for anything else, TooLargeError (413).

        Unknown fields are refused as well; by a v1 route those that can only be a mistake.
        """
        return self._understood(self._object(request, may_be_empty=may_be_empty), names)

    def options(self, request: Request, names: Sequence[str]) -> dict[str, Any]:
        """As `fields`, of a body that only says how: v1 routes ignore one that is no object."""
        try:
            value = self._object(request, may_be_empty=True)
        except InvalidInputError as error:
            if not self.is_v1 or isinstance(error, TooLargeError):
                raise
            self.ignored.append("body")
            return {}
        return self._understood(value, names)

    def refuse_body(self, request: Request) -> None:
        """Raise InvalidInputError for fields in the body of a call that has only parameters."""
        for name in self.options(request, ()):
            spelling.refuse("field", name, (), "; this call takes parameters of the query only")

    def _object(self, request: Request, *, may_be_empty: bool) -> dict[str, Any]:
        kinds = None if self.is_v1 else self.reads
        self.sent = Body(request, self.most_bytes(request._request), kinds)
        value = self.sent.json(self.max_nodes, empty={} if may_be_empty else None)
        if not isinstance(value, dict):
            raise InvalidInputError("the body must be a JSON object")
        return value

    def _understood(self, value: dict[str, Any], names: Sequence[str]) -> dict[str, Any]:
        self.known += names
        for name in spelling.unknown(value, names):
            if not self.is_v1 or spelling.is_only_a_mistake(name, value[name]):
                spelling.refuse("field", name, names)
            self.ignored.append(name)
        return value

    def look_in(self, gid: str) -> None:
        """Raise NotFoundError if the caller may not see the group, be it there or not."""
        if not self.access.sees(gid):
            raise NotFoundError("task group not found")

    def group(self, gid: str) -> TaskGroup:
        """The group, if there is one that the caller may see. Raises NotFoundError."""
        self.look_in(gid)
        row = TaskGroup.objects.filter(pk=gid).first()
        if row is None:
            raise NotFoundError("task group not found")
        return row

    # --- What is answered ------------------------------------------------------------------

    @property
    def default_response_headers(self) -> dict[str, str]:
        return {}

    def finalize_response(
        self, request: HttpRequest, response: HttpResponseBase, *args: Any, **kwargs: Any
    ) -> HttpResponseBase:
        response = super().finalize_response(request, response, *args, **kwargs)
        response.headers.setdefault("Cache-Control", "no-store")
        response.headers.setdefault("X-Content-Type-Options", "nosniff")
        patch_vary_headers(response, ("Authorization", "Cookie"))
        if self.ignored and response.status_code < 400:
            self._tell_ignored(request, response)
        if self.warned and response.status_code < 400:
            response.headers["X-Crew-Warning"] = "; ".join(map(_in_header, self.warned))
        return response

    def _tell_ignored(self, request: HttpRequest, response: HttpResponseBase) -> None:
        response.headers["X-Crew-Ignored"] = spelling.in_header(self.ignored)
        names = spelling.with_hints(self.ignored, self.known)
        log.warning("Ignored at %s %s: %s", request.method, request.path, names)

    def handle_exception(self, exc: Exception) -> HttpResponseBase:
        """Every error in words, as the route tells them; a bug of ours too."""
        set_rollback()  # of a host project's ATOMIC_REQUESTS
        request = self.request
        match exc:
            case NoRoomError():
                return self.error(503, str(exc), {"Retry-After": "1"})
            case CrewError():
                status = next(STATUSES[kind] for kind in STATUSES if isinstance(exc, kind))
                return self.error(getattr(exc, "status", status), str(exc))
            case PermissionDenied():
                audit.denied(request.method, request.path, str(exc.detail))
                return self._framework_error(exc)
            case APIException():
                return self._framework_error(exc)
            case SuspiciousOperation() | BadRequest():
                return self.error(400, "the request cannot be read")
            case UnreadablePostError():
                return self.error(400, "the body ended before it was complete")
            case Exception() if is_outage(exc):
                log.warning("The database gave up: %s", exc)
                return self.error(503, "the database is busy, try again", {"Retry-After": "1"})
            case Exception() if is_refusal(exc):
                log.warning("The database refused %s %s: %s", request.method, request.path, exc)
                return self.error(409, refusal(exc))
        log.exception("An error of ours at %s %s", request.method, request.path)
        return self.error(500, "internal error")

    def _framework_error(self, exc: APIException) -> HttpResponse:
        headers = {}
        if isinstance(exc, NotAuthenticated | AuthenticationFailed):
            challenge = self.get_authenticate_header(self.request)
            headers = {"WWW-Authenticate": challenge} if challenge else {}
            return json_answer({"message": "Unauthorized"}, status=401, headers=headers)
        if isinstance(exc, MethodNotAllowed):
            headers = {"Allow": self._allow()}
            return json_answer({"message": "Method Not Allowed"}, status=405, headers=headers)
        wait = getattr(exc, "wait", None)
        if wait is not None:
            headers["Retry-After"] = str(int(wait) + 1)
        return self.error(exc.status_code, str(exc.detail), headers)

    def error(
        self, status: int, detail: str, headers: Mapping[str, str] | None = None
    ) -> HttpResponse:
        if len(detail) > LONGEST_ERROR:
            detail = f"{detail[: LONGEST_ERROR - 3]}..."
        answer = text(detail, status) if self.is_v1 else problem(detail, status)
        for name, value in (headers or {}).items():
            answer[name] = value
        return answer


def _without_body(response: HttpResponseBase) -> HttpResponseBase:
    """With its headers as they are; some servers would send the body."""
    if isinstance(response, HttpResponse) and response.content:
        response.headers.setdefault("Content-Length", str(len(response.content)))
        response.content = b""
    return response


def _in_header(words: str) -> str:
    """As a header can carry it."""
    return one_line(words).encode("ascii", "backslashreplace").decode()


def _refuse_form(request: Request) -> None:
    """Raise UnsupportedMediaType for the form of a browser, which names its origin: any page can
    send one, and to act it needs nothing in it.
    """
    kind = request._request.content_type
    if request.method != "GET" and kind in FORMS and "HTTP_ORIGIN" in request.META:
        raise UnsupportedMediaType(kind)


def _refuse_foreign(request: Request) -> None:
    """Raise PermissionDenied for what a page of somebody else's sends, to do something.

    Nothing else keeps it out when there is no authentication.
    """
    if request.method != "GET" and origins.is_foreign(request._request):
        raise PermissionDenied("pages of this origin may not write here; CORS_ORIGINS names some")
