"""Locks out who guesses passwords: axes keeps the counts; this says what counts, and answers."""

import logging
from typing import Any

from axes.attempts import get_cool_off_threshold
from axes.handlers.database import AxesDatabaseHandler
from axes.helpers import get_client_username, get_cool_off, get_failure_limit
from axes.models import AccessAttempt
from django.db import transaction
from django.db.models import F, Sum
from django.http import HttpRequest, HttpResponse

from tasks import audit
from tasks.access.callers import of_user
from tasks.access.http import client_address, network

logger = logging.getLogger("crew.login")

# Failures from one address, whatever the names: an office behind one address may mistype often.
ADDRESS_LIMIT = 50
TEXT = "Too many failed logins. Try again later."


class Handler(AxesDatabaseHandler):
    """Counts a try before its password is looked at, so that no number of tries at once gets by.

    A success takes the count back. Nothing that was sent is stored but the name.
    """

    def is_locked(self, request: Any, credentials: dict[str, Any] | None = None) -> bool:
        name = get_client_username(request, credentials) or ""
        limit = get_failure_limit(request, credentials)
        if (
            self.get_failures(request, credentials) >= limit
            or _failures_from(request) >= ADDRESS_LIMIT
        ):
            logger.warning("Refused a login of %s from %s", name, request.axes_ip_address)
            return True
        self.clean_expired_user_attempts(request)
        _count(request, name)
        # Again, with those that began at the same time.
        return bool(self.get_failures(request, credentials) > limit)

    def user_login_failed(
        self, sender: Any, credentials: dict[str, Any], request: Any = None, **kwargs: Any
    ) -> None:
        """Tell; it was counted when it began."""
        name = get_client_username(request, credentials) or ""
        somebody = audit.Actor(audit.UNKNOWN, address=client_address(request))
        audit.record_harmless(somebody, "login failed", audit.Kind.USER, name)

    def user_logged_in(self, sender: Any, request: Any, user: Any, **kwargs: Any) -> None:
        super().user_logged_in(sender, request, user, **kwargs)
        person = audit.Actor(of_user(user).who, user, client_address(request))
        audit.record_harmless(person, "login", audit.Kind.USER, user.get_username())


def guesser(request: HttpRequest) -> str:
    """The address that failures are counted for; of IPv6 the network, as each host owns a /64."""
    return network(client_address(request))


def locked_out(request: HttpRequest, *_: object) -> HttpResponse:
    """The same words for the API and for people; `Retry-After` is the longest it can take."""
    cool_off = get_cool_off(request)
    seconds = int(cool_off.total_seconds()) if cool_off else 0
    headers = {"Retry-After": str(seconds), "Cache-Control": "no-store"}
    return HttpResponse(TEXT, "text/plain; charset=UTF-8", status=429, headers=headers)


def _failures_from(request: Any) -> int:
    recent = AccessAttempt.objects.filter(
        ip_address=request.axes_ip_address, attempt_time__gte=get_cool_off_threshold(request)
    )
    return recent.aggregate(sum=Sum("failures_since_start"))["sum"] or 0


def _count(request: Any, name: str) -> None:
    # One row for all user agents: they are the guesser's to choose.
    which = {"username": name[:255], "ip_address": request.axes_ip_address, "user_agent": ""}
    with transaction.atomic():
        AccessAttempt.objects.get_or_create(
            **which, defaults={"failures_since_start": 0, "path_info": request.axes_path_info}
        )
        AccessAttempt.objects.filter(**which).update(
            failures_since_start=F("failures_since_start") + 1,
            attempt_time=request.axes_attempt_time,
        )
