"""Login and tokens, described."""

from collections.abc import Mapping
from typing import Any

from drf_spectacular.utils import OpenApiResponse
from rest_framework.views import APIView

from .. import login, unknown
from . import shapes
from .words import BODY, JSON, OURS, TEXT, WORDS, answers, operation

_LOGIN = {
    (200, JSON): OpenApiResponse(shapes.LoginToken, description="Logged in."),
    (400, TEXT): OpenApiResponse(str, description=WORDS[400]),
    (401, TEXT): OpenApiResponse(str, description="`Invalid Credentials`"),
    (405, JSON): OpenApiResponse(shapes.Message, description="No authentication is in use."),
    (409, TEXT): OpenApiResponse(str, description=WORDS[409]),
    (413, TEXT): OpenApiResponse(str, description=WORDS[413]),
    (415, TEXT): OpenApiResponse(str, description=WORDS[415]),
    (429, TEXT): OpenApiResponse(str, description=WORDS[429]),
}
_CHECKED = {
    (200, TEXT): OpenApiResponse(str, description="`Authenticated!`"),
    (401, JSON): OpenApiResponse(shapes.Message, description=WORDS[401]),
}

DESCRIBED: Mapping[type[APIView], Mapping[str, Any]] = {
    unknown.Healthz: {
        "get": operation(
            "healthz",
            "Is the server there?",
            {(200, TEXT): OpenApiResponse(str, description="`Healthy!`")},
            tags=["login"],
        )
    },
    unknown.Ready: {
        "get": operation(
            "ready",
            "Is its database there too?",
            {
                (200, TEXT): OpenApiResponse(str, description="`Ready!`"),
                (503, TEXT): OpenApiResponse(str, description="`the database is away`"),
            },
            tags=["login"],
        )
    },
    login.Login: {
        "post": operation(
            "login",
            "Log in",
            _LOGIN,
            tags=["login"],
            request={JSON: shapes.Credentials},
            body={"username": "ann", "password": "correct horse battery staple"},
        )
    },
    login.Logout: {
        "post": operation("logout", "Log out", answers(shapes.Success, 400, 409), tags=["login"])
    },
    login.AuthCheck: {
        "get": operation("authcheck", "Is the token good?", _CHECKED, tags=["login"])
    },
    login.StreamTicket: {
        "post": operation(
            "stream_ticket",
            "A ticket for one live stream",
            answers(
                shapes.Ticket,
                409,
                *BODY,
                **OURS,
                example={"ticket": "crew_...", "expiresInSeconds": 60},
            ),
            tags=["login"],
        )
    },
}
