"""The settings Crew knows, with their types and defaults.

Read through `conf.NAME` at each use, so an embedding project needs to set only what differs and
`override_settings` works. `checks/settings.py` refuses wrong values when the process starts.
"""

from typing import Any

from django.conf import settings

MOST_DAYS = 36_525  # a hundred years: no time of ours is longer

DEFAULTS: dict[str, Any] = {
    # str: a worker's URL is this base plus the worker's name; http(s), ends in "/".
    "CREW_WORKER_BASE_URL": "",
    # str | None: sent verbatim as `Authorization` to workers; None sends no such header.
    "CREW_WORKER_AUTHORIZATION_HEADER": None,
    # list[str]: networks in CIDR form that may be called although they are not public. The
    # host of the base URL is always allowed what it resolves to, except link-local.
    "CREW_WORKER_ALLOW_NETS": [],
    # str: PEM file of the authority that signs the workers' certificates; "" = the system's.
    "CREW_WORKER_CA_FILE": "",
    # list[str]: "whsec_<base64>" secrets; each signs every call (Standard Webhooks). Two rotate.
    "CREW_SIGNING_SECRETS": [],
    # str: "asyncio", "requests", or the dotted path of a Deliverer class.
    "CREW_DELIVERER": "asyncio",
    # str: where a test ends, holds or fails this process (failpoints.py); takes DEBUG.
    "CREW_FAILPOINTS": "",
    # str: dotted path of a callable giving a Throttler (see scheduler.py); "" = none.
    "CREW_THROTTLER": "",
    # int: calls in flight in one scheduler process.
    "CREW_SLOTS": 500,
    # float, seconds: a scheduler silent for this long has lost its leases.
    "CREW_LEASE_SECONDS": 30.0,
    # float, seconds: how often each scheduler looks for lost leases.
    "CREW_SWEEP_SECONDS": 5.0,
    # float, seconds: how long running calls may still take after SIGTERM; what then still runs is
    # cut, and runs again without having used an attempt.
    "CREW_DRAIN_SECONDS": 20.0,
    # float, seconds: how long a call whose connection was cut, or is gone, keeps its slot and key,
    # because its worker may still be at it; 0 = not at all.
    "CREW_SLOT_KEPT_SECONDS": 0.0,
    # float, seconds: from the first byte sent to the last byte of the answer.
    "CREW_DELIVERY_TIMEOUT_SECONDS": 300.0,
    # int | None: attempts in flight of a worker whose row names no limit; None = no limit.
    "CREW_WORKER_MAX_CONCURRENCY": None,
    # str: the operator's account, made or updated when a server starts; "" = none is made.
    "CREW_AUTH_USERNAME": "",
    "CREW_AUTH_PASSWORD": "",
    # str: a fixed token that may do everything, as the old Crew had one; "" = none.
    "CREW_AUTH_TOKEN": "",
    # list[str]: dotted paths of DRF authentication classes, asked in this order. An embedder's
    # own class lets in whom it names, for everything, unless it sets an `Access` as the auth.
    # An empty list: no authentication at all, and no /login.
    "CREW_AUTHENTICATION": [
        "access.http.TokenAuthentication",
        "rest_framework.authentication.SessionAuthentication",
    ],
    # str: dotted path of `login(request, username, password) -> token or None`; "" = ours.
    "CREW_LOGIN": "",
    # float, hours: how long a token of /login lives; 12 at most, as it may stand in a URL.
    "CREW_LOGIN_HOURS": 12.0,
    # int: proxies in front of us that each add to X-Forwarded-For; 0 = the header is ignored.
    "CREW_TRUSTED_PROXIES": 0,
    # float, days: how long the audit history is kept.
    "CREW_AUDIT_DAYS": 400.0,
    # float | None, days: groups that were finished so long ago are deleted; None = never.
    "CREW_KEEP_DAYS": None,
    # int, bytes: the longest body of a request; of a bulk create; of one as NDJSON.
    "CREW_MAX_BODY_BYTES": 2 * 1024 * 1024,
    "CREW_MAX_BULK_BYTES": 16 * 1024 * 1024,
    "CREW_MAX_NDJSON_BYTES": 128 * 1024 * 1024,
    # int: tasks in one NDJSON create.
    "CREW_MAX_NDJSON_TASKS": 100_000,
    # int: rows on one page, and rows given for the old `pageSize=0`, which asks for all.
    "CREW_MAX_PAGE": 500,
    "CREW_MAX_PAGE_ALL": 5_000,
    # int, bytes: of the tasks on one page, about; the page ends where they do, at least one is on.
    "CREW_MAX_PAGE_BYTES": 8 * 1024 * 1024,
    # list[str]: origins (scheme://host:port) whose pages may open a live stream with a token;
    # "*" = any, as the token is the key. A session's cookie only counts for our own origin.
    "CREW_STREAM_ORIGINS": ["*"],
    # int: live streams at once of one caller in one process.
    "CREW_MAX_STREAMS": 10,
    # int: connections to PostgreSQL that the requests of one web process share.
    "CREW_WEB_CONNECTIONS": 20,
    # bool: wake schedulers by NOTIFY on PostgreSQL; they poll every second in any case.
    "CREW_NOTIFY": True,
    # int, bytes: the longest answer read from a worker, decoded.
    "CREW_MAX_ANSWER_BYTES": 1024 * 1024,
    # int, bytes: kept, for people, of the body of each request and of each answer; 0 = nothing.
    "CREW_KEEP_CALL_BYTES": 4_096,
    # int, bytes: the longest `input` of a task, as JSON text.
    "CREW_MAX_INPUT_BYTES": 1024 * 1024,
    # int, bytes: the longest payload POSTed, parents' outputs included.
    "CREW_MAX_PAYLOAD_BYTES": 8 * 1024 * 1024,
    # int, bytes: memory that the large answers and bodies of one web process share.
    "CREW_WEB_BYTES": 96 * 1024 * 1024,
    # int, bytes: what the calls of a scheduler hold in memory until they are sent.
    "CREW_CALLS_BYTES": 64 * 1024 * 1024,
    # int: children in one answer.
    "CREW_MAX_CHILDREN": 1_000,
    # int: tasks in one create call.
    "CREW_MAX_TASKS_PER_CALL": 10_000,
    # int: parent ids in one create call, summed over its tasks.
    "CREW_MAX_EDGES_PER_CALL": 100_000,
    # int: parents of one task.
    "CREW_MAX_PARENTS": 10_000,
    # int: tasks in one group.
    "CREW_MAX_GROUP_TASKS": 1_000_000,
}


class Conf:
    """`conf.CREW_X` is Django's `settings.CREW_X`, or the default when it is not set."""

    def __getattr__(self, name: str) -> Any:
        if name not in DEFAULTS:
            raise AttributeError(f"{name} is not a setting of Crew")
        return getattr(settings, name, DEFAULTS[name])


conf = Conf()
