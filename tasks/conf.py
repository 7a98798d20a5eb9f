"""The settings Crew knows: one row each, from which all that is said of a setting is made.

`checks/settings.py` refuses what a row does not allow, `crewsite/settings.py` reads the variables
of the environment, and `docs/settings.md` shows the words. A new setting is a row here and no more.
"""

from dataclasses import dataclass
from typing import Any

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured

from .rules.transcript import MOST_KEPT

__all__ = ["conf"]

MOST_DAYS = 36_525  # a hundred years: no time of ours is longer
MOST_WHOLE = 10**12
MIB = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Setting:
    """What may stand in a setting; `words` say to people what it is, in Markdown.

    `above` and `least` are the bounds of a number that it must pass or reach. None is allowed
    where it is the default.
    """

    kind: type[str] | type[int] | type[float] | type[bool] | type[list[str]]  # lists of texts
    default: Any
    words: str
    above: float | None = None
    least: float | None = None
    most: float | None = None
    # Whether the site reads it from a variable of the same name; the others take a settings module.
    is_variable: bool = True

    def allows(self, value: object) -> bool:
        """Whether the value is of this kind and within its bounds."""
        if value is None:
            return self.default is None
        if self.kind is list:
            return isinstance(value, list | tuple) and all(isinstance(each, str) for each in value)
        if self.kind not in (int, float):
            return isinstance(value, self.kind)
        kinds = int if self.kind is int else int | float
        if not isinstance(value, kinds) or isinstance(value, bool):
            return False
        return (  # nor is it nan
            (self.above is None or value > self.above)
            and (self.least is None or value >= self.least)
            and value <= self.limit
        )

    @property
    def limit(self) -> float:
        """Of a number, also where none is named: no clock and no counter goes beyond."""
        if self.most is not None:
            return self.most
        return MOST_WHOLE if self.kind is int else MOST_DAYS * 86_400

    def wanted(self) -> str:
        """What a number must be, in words."""
        bounds = [
            f"above {self.above:,}" if self.above is not None else "",
            f"{self.least:,} or more" if self.least is not None else "",
            f"at most {self.limit:,}",
        ]
        what = "a whole number" if self.kind is int else "a number"
        or_none = ", or None" if self.default is None else ""
        return f"{what} {' and '.join(filter(None, bounds))}".strip() + or_none


SETTINGS: dict[str, Setting] = {
    # --- Workers ---
    "CREW_WORKER_BASE_URL": Setting(
        str,
        "",
        "a worker's URL is this base and the worker's name; http or https, ends in `/`. With"
        " `DEBUG` the site's default is `/demo/` of this server",
    ),
    "CREW_WORKER_AUTHORIZATION_HEADER": Setting(
        str, None, "sent verbatim to workers as `Authorization`"
    ),
    "CREW_WORKER_ALLOW_NETS": Setting(
        list,
        [],
        "private networks that may be called, `10.1.0.0/16,…`; what the base URL's own host"
        " resolves to may as well, unless it was public at the start, link-local never",
    ),
    "CREW_WORKER_CA_FILE": Setting(
        str, "", "PEM file of the authority of the workers' certificates; none is the system's"
    ),
    "CREW_SIGNING_SECRETS": Setting(
        list,
        [],
        "`whsec_…`; each signs every call (Standard Webhooks), so two of them while you rotate",
    ),
    "CREW_WORKER_MAX_CONCURRENCY": Setting(
        int,
        None,
        "attempts in flight of a worker whose row names no limit; none is no limit",
        least=0,
    ),
    # --- Schedulers and their calls ---
    "CREW_DELIVERER": Setting(
        str, "asyncio", "or `requests`, or the dotted path of your own Deliverer class"
    ),
    "CREW_THROTTLER": Setting(
        str, "", "dotted path of a callable that gives a Throttler ([waiting](waiting.md))"
    ),
    "CREW_SLOTS": Setting(
        int, 500, "calls in flight in one scheduler process", above=0, most=100_000
    ),
    "CREW_LEASE_SECONDS": Setting(
        float, 30.0, "a scheduler silent for this long has lost its leases", above=0
    ),
    "CREW_SWEEP_SECONDS": Setting(
        float, 5.0, "how often each scheduler looks for lost leases", above=0
    ),
    "CREW_DRAIN_SECONDS": Setting(
        float,
        20.0,
        "how long running calls may still take after SIGTERM; what then still runs is cut, and"
        " runs again without having used an attempt. Give the process 15 seconds more",
        least=0,
    ),
    "CREW_SLOT_KEPT_SECONDS": Setting(
        float,
        0.0,
        "how long a call whose connection is gone keeps its slot and key, because its worker may"
        " still be at it; 0 frees them at once",
        least=0,
        most=86_400,
    ),
    "CREW_DELIVERY_TIMEOUT_SECONDS": Setting(
        float, 300.0, "one call, from the first byte sent to the last byte of the answer", above=0
    ),
    "CREW_NOTIFY": Setting(
        bool,
        True,
        "wake schedulers by PostgreSQL's NOTIFY; they poll every second in any case. The site's"
        " default is off with `DATABASE_POOLED`",
    ),
    "CREW_FAILPOINTS": Setting(
        str,
        "",
        "where a test ends, holds or fails this process; takes `DEBUG`",
        is_variable=False,
    ),
    # --- People and programs ---
    "CREW_AUTH_USERNAME": Setting(
        str, "", "the operator's account, made or updated when a server starts"
    ),
    "CREW_AUTH_PASSWORD": Setting(str, "", "the operator's password"),
    "CREW_AUTH_TOKEN": Setting(
        str, "", "a fixed token that may do everything, 16 characters or more"
    ),
    "CREW_AUTHENTICATION": Setting(
        list,
        [
            "access.http.TokenAuthentication",
            "rest_framework.authentication.SessionAuthentication",
        ],
        "dotted paths of classes of Django REST framework, asked in this order. An embedder's own"
        " class lets in whom it names, for everything, unless it sets an `Access` as the auth. An"
        " empty list: no authentication at all, and no `/login`",
        is_variable=False,
    ),
    "CREW_LOGIN": Setting(
        str, "", "dotted path of your own `login(request, username, password)` → token or None"
    ),
    "CREW_MAX_WRONG_TOKENS": Setting(
        int,
        100,
        "wrong tokens that one address (of IPv6, a /64) may send to one web process in a minute;"
        " after that they are answered 429. Right ones are never slowed",
        above=0,
    ),
    "CREW_LOGIN_HOURS": Setting(
        float,
        12.0,
        "how long a token of `/login` lives. Programs take an API token, which can live longer:"
        " `manage.py crewtoken` makes one",
        above=0,
        most=12,
    ),
    "CREW_TRUSTED_PROXIES": Setting(
        int,
        0,
        "proxies in front that each add to `X-Forwarded-For`; with 0 the header is ignored",
        least=0,
        most=10,
    ),
    "CREW_STREAM_ORIGINS": Setting(
        list,
        ["*"],
        "origins (`scheme://host:port`) whose pages may open a live stream with a token; `*` is"
        " any, as the token is the key. A session's cookie only counts for our own origin",
    ),
    "CREW_MAX_STREAMS": Setting(
        int, 10, "live streams at once of one caller in one process", above=0
    ),
    "CREW_MAX_CONNECTIONS": Setting(
        int,
        500,
        "connections at once of one address (of IPv6, of a /64) with one web process; with"
        " `CREW_TRUSTED_PROXIES` it counts the requests and streams of the address that they name",
        above=0,
    ),
    "CREW_WEB_CONNECTIONS": Setting(
        int, 20, "connections to PostgreSQL that the requests of one web process share", above=0
    ),
    # --- What is kept ---
    "CREW_KEEP_DAYS": Setting(
        float,
        None,
        "schedulers delete groups that were finished so many days ago, beside their work; none"
        " keeps them",
        above=0,
        most=MOST_DAYS,
    ),
    "CREW_AUDIT_DAYS": Setting(
        float, 400.0, "how long the audit history is kept", above=0, most=MOST_DAYS
    ),
    "CREW_KEEP_CALL_BYTES": Setting(
        int,
        4_096,
        "how much each attempt keeps, for people, of the bodies of its request and answer; 0 keeps"
        " nothing of either",
        least=0,
        most=MOST_KEPT,
    ),
    # --- Memory of a process ---
    "CREW_CALLS_BYTES": Setting(
        int,
        64 * MIB,
        "what the calls of a scheduler hold in memory: bodies until they are sent, and large"
        " answers until they are written; workers whose answers find no room wait",
        above=0,
    ),
    "CREW_WEB_BYTES": Setting(
        int,
        96 * MIB,
        "memory that the large answers and bodies of one web process share, half each; who finds"
        " no room for 30 s is answered 503 with `Retry-After`",
        above=0,
    ),
    # --- Sizes ---
    "CREW_MAX_BODY_BYTES": Setting(int, 2 * MIB, "the longest body of a request", above=0),
    "CREW_MAX_BULK_BYTES": Setting(int, 16 * MIB, "the longest body of a bulk create", above=0),
    "CREW_MAX_NDJSON_BYTES": Setting(
        int, 128 * MIB, "the longest body of a bulk create as NDJSON", above=0
    ),
    "CREW_MAX_STRANGER_BYTES": Setting(
        int,
        8 * 1024,
        "the longest body of a caller who is not known yet. For more, path, `Authorization` and"
        " session are looked at before it is taken: a route of the API asks its own"
        " authentication (an embedder's classes see the head only), other views need a session or"
        " `csrf_exempt`",
        above=0,
    ),
    "CREW_MAX_NDJSON_TASKS": Setting(int, 100_000, "tasks in one NDJSON create", above=0),
    "CREW_MAX_PAGE": Setting(int, 500, "rows on one page", above=0),
    "CREW_MAX_PAGE_ALL": Setting(
        int, 5_000, "rows given for the old `pageSize=0`, which asks for all", above=0
    ),
    "CREW_MAX_PAGE_BYTES": Setting(
        int,
        8 * MIB,
        "of the tasks on one page, about; it ends where they do (`isCut`), with one row at least",
        above=0,
    ),
    "CREW_MAX_ANSWER_BYTES": Setting(
        int, MIB, "the longest answer read from a worker, decoded", above=0
    ),
    "CREW_MAX_INPUT_BYTES": Setting(
        int, MIB, "the longest `input` of a task, as JSON text", above=0
    ),
    "CREW_MAX_PAYLOAD_BYTES": Setting(
        int, 8 * MIB, "the longest payload POSTed, parents' outputs included", above=0
    ),
    "CREW_MAX_CHILDREN": Setting(int, 1_000, "children in one answer", above=0),
    "CREW_MAX_TASKS_PER_CALL": Setting(int, 10_000, "tasks in one create call", above=0),
    "CREW_MAX_EDGES_PER_CALL": Setting(
        int, 100_000, "parent ids in one create call, summed over its tasks", above=0
    ),
    "CREW_MAX_PARENTS": Setting(int, 10_000, "parents of one task", above=0),
    "CREW_MAX_GROUP_TASKS": Setting(int, 1_000_000, "tasks in one group", above=0),
}


class Conf:
    """`conf.CREW_X` is Django's `settings.CREW_X`, or the default when it is not set.

    Read at each use: an embedding project sets only what differs, and `override_settings` works.
    ImproperlyConfigured for a list that is none: as "nothing" it would open a door.
    """

    def __getattr__(self, name: str) -> Any:
        if name not in SETTINGS:
            raise AttributeError(f"{name} is not a setting of Crew")
        setting = SETTINGS[name]
        value = getattr(settings, name, setting.default)
        if setting.kind is list and not isinstance(value, list | tuple):
            raise ImproperlyConfigured(f"{name} must be a list")
        return value


conf = Conf()
