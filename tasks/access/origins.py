"""Whose page sent a request: browsers say so, and what is no browser says nothing."""

import re
from fnmatch import fnmatchcase

from django.conf import settings
from django.http import HttpRequest

_PATTERNS = "CORS_ALLOWED_ORIGIN_REGEXES"
_DEFAULT_PORT = re.compile(r"^(http://.*):80$|^(https://.*):443$")


def own(request: HttpRequest) -> str:
    """Our origin, as a browser names it. Raises DisallowedHost."""
    scheme = "https" if request.is_secure() else "http"
    return _DEFAULT_PORT.sub(r"\1\2", f"{scheme}://{request.get_host()}".lower())


def is_trusted(origin: str) -> bool:
    """Whether the site's settings name it, for calls (CORS) or for forms (CSRF)."""
    if getattr(settings, "CORS_ALLOW_ALL_ORIGINS", False):
        return True
    forms = [each.lower() for each in settings.CSRF_TRUSTED_ORIGINS]
    return (
        origin in (*map(str.lower, getattr(settings, "CORS_ALLOWED_ORIGINS", ())), *forms)
        or any("*" in each and fnmatchcase(origin, each) for each in forms)
        or any(re.match(each, origin) for each in getattr(settings, _PATTERNS, ()))
    )


def is_foreign(request: HttpRequest) -> bool:
    """Whether a page sent it that is neither ours nor trusted. Raises DisallowedHost."""
    origin = request.META.get("HTTP_ORIGIN")
    if origin is None:
        return request.META.get("HTTP_SEC_FETCH_SITE", "none") not in ("same-origin", "none")
    return origin.lower() != own(request) and not is_trusted(origin.lower())
