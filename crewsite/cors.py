"""CORS as the old Crew answered it (contract 1.1), for the origins that CORS_ORIGINS names."""

from typing import Any

from corsheaders.middleware import CorsMiddleware
from django.http import HttpRequest, HttpResponse

METHODS = "GET,HEAD,PUT,PATCH,POST,DELETE"


class CrewCorsMiddleware(CorsMiddleware):
    """A preflight is answered 204, and allowed the headers it asks for: a token is the key."""

    def check_preflight(self, request: HttpRequest) -> HttpResponse | None:
        return HttpResponse(status=204) if super().check_preflight(request) else None

    def add_response_headers(self, request: HttpRequest, response: Any) -> Any:
        super().add_response_headers(request, response)
        if request.method == "OPTIONS" and "Access-Control-Allow-Methods" in response:
            response["Access-Control-Allow-Methods"] = METHODS
            asked = request.headers.get("Access-Control-Request-Headers", "")
            response["Access-Control-Allow-Headers"] = asked
        return response
