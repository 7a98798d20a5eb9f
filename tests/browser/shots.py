"""Pictures of every page for the docs: python -m tests.browser.shots

It starts a site of its own in a temporary folder, furnishes it with believable work, and writes
docs/screens/*.png: wide in light and dark, and narrow as on a phone.
"""

import os
import socket
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

SCREENS = Path(__file__).resolve().parents[2] / "docs" / "screens"
LARGEST = 150_000  # bytes; what is larger is taken again, less high
KINDS = {
    "light": {"viewport": {"width": 1280, "height": 800}, "color_scheme": "light"},
    "dark": {"viewport": {"width": 1280, "height": 800}, "color_scheme": "dark"},
    "phone": {"viewport": {"width": 390, "height": 780}, "color_scheme": "light"},
}
GROUP = "/admin/crew/taskgroup/nightly/change/"
PAGES = {
    "home": "/admin/",
    "groups": "/admin/crew/taskgroup/",
    "group-tasks": f"{GROUP}#tasks",
    "group-graph": f"{GROUP}#graph",
    "group-timeline": f"{GROUP}#timeline",
    "group-failures": "/admin/crew/taskgroup/invoices/change/#failures",
    "task": "/admin/crew/task/newsletter.mail-5/change/",
    "attempt": "/admin/crew/task/invoices.parse-1/change/",
    "add-task": "/admin/crew/task/add/?group=nightly",
    "group-history": f"{GROUP}#history",
    "attempts": "/admin/crew/attempt/",
    "workers": "/admin/crew/worker/",
    "worker": "/admin/crew/worker/parse/change/",
    "workgroups": "/admin/crew/workgroup/",
    "workgroup": "/admin/crew/workgroup/smtp.example.org/change/",
    "schedulers": "/admin/crew/schedulerprocess/",
    "tokens": "/admin/crew/token/",
    "audit": "/admin/crew/auditentry/",
}
# What is pressed before the picture is taken.
PRESSED = {"attempt": "Request and answer of attempt 1"}


@contextmanager
def site() -> Iterator[None]:
    """Django on a database that is gone afterwards; the processes started find the same."""
    with tempfile.TemporaryDirectory(prefix="crew-shots-") as folder:
        os.environ["DATABASE_URL"] = f"sqlite:///{folder}/db.sqlite3"
        os.environ |= {"DEBUG": "1", "DJANGO_SETTINGS_MODULE": "crewsite.settings"}
        import django
        from django.core.management import call_command

        django.setup()
        call_command("migrate", verbosity=0)
        yield


def furnish() -> None:
    """A nightly import: one that is done, one that runs, one that failed in two ways, one held."""
    from tasks import audit, create, limits_and_holds
    from tasks.access import tokens
    from tasks.delivery.calls import CallRules, Delivery
    from tasks.engine.lease import Lease
    from tasks.engine.settle import settle as settle_all
    from tasks.engine.settlement import Settlement
    from tasks.models import Task
    from tasks.rules.decide import Failed
    from tasks.rules.jsonio import dump
    from tasks.rules.payload import payload
    from tasks.rules.transcript import Transcript, message

    from ..factories import claim_all, complete, fail

    def make(id_: str, name: str, tasks: list[dict]) -> None:
        named = [{"id": f"{id_}.{n['name']}"} | n for n in tasks]
        for each in named:
            each["parentIds"] = [f"{id_}.{parent}" for parent in each.pop("after", [])]
        create.create_group(id=id_, name=name, tasks=named)

    def steps(files: int) -> list[dict]:
        def fan(verb: str, after: str) -> list[dict]:
            return [
                {"name": f"{verb}-{n}", "worker": verb, "after": [f"{after}-{n}" if n0 else after]}
                for n, n0 in ((n, after != "list") for n in range(1, files + 1))
            ]

        last = [
            {
                "name": "report",
                "worker": "report",
                "after": [f"store-{n + 1}" for n in range(files)],
            }
        ]
        first = [{"name": "list", "worker": "list", "isSeed": True, "input": {"from": "s3://in"}}]
        return first + fan("fetch", "list") + fan("parse", "fetch") + fan("store", "parse") + last

    def settle(answer: dict, rounds: int) -> None:
        for _ in range(rounds):
            for lease in claim_all():
                answer.get(lease.worker, lambda each: complete(each, {"rows": 4_211}))(lease)

    def refuse(lease: Lease, error: str) -> None:
        """As `fail`, with the call as a scheduler would have kept it."""
        body = payload(lease.task_id, lease.worker, lease.input_json, lease.parents)
        headers = CallRules.from_conf().headers(Delivery(lease.task_id, 1, lease.worker, body))
        url = f"https://workers.example.org/run/{lease.worker}"
        sent = message(f"POST {url}", headers.items(), body, most=4_096)
        said = [("content-type", "application/json"), ("x-request-id", "7f3a19c0")]
        came = message("HTTP 422", said, dump({"error": error}).encode(), most=4_096)
        settle_all([Settlement(lease, Failed(error), 422, Transcript(sent, came))])

    make("monday", "Nightly import of Monday", steps(3))
    settle({}, 5)
    broken = {
        "parse": lambda each: refuse(each, "line 812: '12,4O' is no number"),
        "fetch": lambda each: (
            fail(each, "ConnectError: files.example.org refused")
            if each.task_id.endswith(("2", "5"))
            else complete(each, {"rows": 4_211})
        ),
    }
    failing = [each | {"remainingAttempts": 1} for each in steps(6)]
    make("invoices", "Invoices of November", failing)
    settle(broken, 4)
    mail = {"worker": "mailer", "workgroup": "smtp.example.org"}
    make("newsletter", "Newsletter", [mail | {"name": f"mail-{n}"} for n in range(1, 5)])
    *sent, last = claim_all()
    for lease in sent:
        complete(lease, {"sent": True})
    complete(last, {"sent": True}, workgroup_delay=900)
    later = [mail | {"id": f"newsletter.mail-{n}", "name": f"mail-{n}"} for n in range(5, 9)]
    create.create_tasks("newsletter", later)
    make("nightly", "Nightly import of Tuesday", steps(5))
    settle({}, 2)
    for lease in claim_all()[:2]:
        complete(lease, {"rows": 4_211})
    # The others' scheduler is no more: the one that runs takes them over.
    Task.objects.filter(leased_by="s1").update(leased_by=None, leased_at=None)
    with audit.by("ann"):
        limits_and_holds.limit_worker("store", 8)
        limits_and_holds.hold_workgroup("printer", seconds=1_800)
        tokens.issue(name="nightly cron job", scopes=["read", "write"])


@contextmanager
def busy_workers() -> Iterator[str]:
    """An address where nothing is ever answered: what is called there runs in the pictures."""
    with socket.create_server(("127.0.0.1", 0), backlog=100) as server:
        yield f"http://127.0.0.1:{server.getsockname()[1]}/"


def shoot(url: str, user: object) -> None:
    from . import chromium
    from .driver import started
    from .visit import Visit

    SCREENS.mkdir(parents=True, exist_ok=True)
    with started(chromium.find()) as browser:
        for kind, options in KINDS.items():
            person = Visit(browser, url, reduced_motion="reduce", **options)
            person.settle("/admin/login/")
            take(person, SCREENS / f"login-{kind}.png")
            person.log_in(user)
            person.settle(GROUP)
            person.page.wait_for_selector(".crew-chip[data-state=executing]")
            for name, path in PAGES.items():
                person.settle(path)
                if name in PRESSED:
                    person.page.get_by_role("button", name=PRESSED[name]).click()
                    person.page.wait_for_selector("dialog pre")
                take(person, SCREENS / f"{name}-{kind}.png")
            person.check()
            person.close()


def take(person: object, file: Path) -> None:
    person.shoot(file)
    if file.stat().st_size > LARGEST:
        print(f"{file.name} has {file.stat().st_size // 1000} kB", file=sys.stderr)


def main() -> None:
    with site():
        from django.contrib.auth.models import User

        from ..processes import scheduler
        from ..web import web

        furnish()
        boss = User.objects.create_superuser("ann", password="a password of the pictures")
        with web() as running, busy_workers() as base, scheduler(base, "--slots", "20"):
            shoot(running.url, boss)


if __name__ == "__main__":
    main()
