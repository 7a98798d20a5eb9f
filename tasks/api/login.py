"""The routes of logging in and out (contract 1.2), and ours: a ticket for a live stream."""

from typing import Any

from django.contrib.auth import authenticate
from django.contrib.auth.signals import user_logged_in
from django.http import HttpRequest, HttpResponse
from django.utils.module_loading import import_string
from rest_framework.request import Request

from ..access import tokens
from ..access.callers import READ
from ..conf import conf
from ..errors import InvalidInputError
from .answers import json_answer, text
from .base import CrewView

CREDENTIALS = ("username", "password")


class OfLogins(CrewView):
    """A route that is not there without authentication."""

    @property
    def allowed_methods(self) -> list[str]:
        return super().allowed_methods if conf.CREW_AUTHENTICATION else []


class Login(OfLogins):
    """Give a token for a name and a password. There is no such route without authentication."""

    needs = {"POST": ""}
    is_open = True

    def post(self, request: Request) -> HttpResponse:
        """Names of fields may come in any case, as the old Crew took them."""
        sent = self.fields(request, CREDENTIALS)
        self.ignored = [name for name in self.ignored if name.lower() not in CREDENTIALS]
        username, password = _text(sent, "username"), _text(sent, "password")
        login = import_string(conf.CREW_LOGIN) if conf.CREW_LOGIN else log_in
        token = login(request._request, username, password)
        if not token:
            return text("Invalid Credentials", 401)
        return json_answer({"token": token})


class AuthCheck(CrewView):
    """Whether the caller is known. Old UIs ask before every page: one query, and no limit."""

    needs = {"GET": ""}

    def get(self, request: Request) -> HttpResponse:
        """A token that may do nothing is good all the same."""
        return text("Authenticated!")


class Logout(OfLogins):
    """End the login token that this is called with, and the streams opened by it."""

    needs = {"POST": ""}

    def post(self, request: Request) -> HttpResponse:
        """Other tokens are not taken back this way: programs share them."""
        if not tokens.log_out(self.access):
            raise InvalidInputError("only the token of a login can log out")
        return json_answer({"success": True})


class StreamTicket(CrewView):
    """Give what opens one live stream, once, within a minute: its path may end up in logs."""

    needs = {"POST": READ}
    is_v1 = False

    def post(self, request: Request) -> HttpResponse:
        """The stream has the rights of the caller, and ends with them."""
        self.options(request, ())
        ticket = tokens.stream_ticket(self.access)
        seconds = int(tokens.ticket_seconds(self.access))
        return json_answer({"ticket": ticket, "expiresInSeconds": seconds})


def log_in(request: HttpRequest, username: str, password: str) -> str | None:
    """A login token, or None for whatever reason Django's backends have."""
    user = authenticate(request, username=username, password=password) if username else None
    if user is None:
        return None
    user_logged_in.send(sender=type(user), request=request, user=user)
    return tokens.login_token(user)


def _text(sent: dict[str, Any], name: str) -> str:
    spelt = name if name in sent else next((key for key in sent if key.lower() == name), name)
    value = sent.get(spelt)
    if value is not None and not isinstance(value, str):
        raise InvalidInputError(f"{name} must be text")
    return value or ""
