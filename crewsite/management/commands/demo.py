"""`manage.py demo`: everything Crew needs in one terminal, and a first group of tasks done.

The web server and the scheduler are child processes. Whatever ends this one ends them too.
"""

import contextlib
import ctypes
import os
import secrets
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from django.conf import settings
from django.contrib.auth import get_user_model
from django.core.management import call_command
from django.core.management.base import CommandError, CommandParser

from tasks import create
from tasks.conf import conf
from tasks.management.base import CrewCommand
from tasks.models import Task, TaskGroup

WEB_STARTS_WITHIN = 60.0
WEB_STOPS_WITHIN = 8.0
PR_SET_PDEATHSIG = 1
EVERYWHERE = ("0.0.0.0", "::")  # noqa: S104  addresses to listen on, not to call
# Says that the environment is complete: see `complete_environment`.
READY = "CREW_DEMO_READY"


class Command(CrewCommand):
    help = "Start Crew with its demo workers, run a group of tasks, and stay until Ctrl-C."
    requires_system_checks: list[str] = []  # noqa: RUF012  no environment yet

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--once", action="store_true", help="stop when the group is complete")
        parser.add_argument(
            "--timeout", type=float, default=120.0, help="seconds until --once gives up"
        )

    def handle(self, *args: Any, once: bool, timeout: float, **options: Any) -> None:
        if os.environ.pop(READY, "") != str(os.getpid()):
            # Settings are read once, so what they are read from must be there before them.
            os.execve(sys.executable, [sys.executable, *sys.argv], complete_environment())  # noqa: S606
        Demo(once=once, timeout=timeout).run()


class Demo:
    """The children of one demo, from the first to the last."""

    def __init__(self, *, once: bool, timeout: float) -> None:
        self.once = once
        self.deadline = time.monotonic() + timeout if once else None
        self.stops = 0  # how often somebody asked us to stop
        self.stopping = threading.Event()
        self.web: Child | None = None
        self.scheduler: Child | None = None

    def run(self) -> None:
        call_command("migrate", verbosity=0, interactive=False)
        login = make_operator()
        for line in login:
            say(line)
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, self.stop)
        try:
            self.start_children()
            group = start_demo_group()
            say(f"Group {group.pk} is made: one task, whose worker will ask for four more.")
            complete = self.watch(group)
            if complete:
                self.tell(group, login)
            if not self.once:
                while not self.stopping.wait(0.5):
                    self.check()
            elif not complete:
                raise CommandError("Stopped before the group was complete.")
        finally:
            self.stop_children()

    def stop(self, *_: object) -> None:
        self.stops += 1
        self.stopping.set()

    def start_children(self) -> None:
        host, port = os.environ["HOST"], os.environ["PORT"]
        web = ["manage.py", "crewweb", "-v", "0", "-b", host, "-p", port]
        self.web = Child("web", web, stops_within=WEB_STOPS_WITHIN)
        say(f"Starting the web server at {site_url()}")
        give_up = time.monotonic() + WEB_STARTS_WITHIN
        while not answers(site_url() + "healthz"):
            self.check()
            if time.monotonic() > give_up:
                raise CommandError(f"The web server did not answer in {WEB_STARTS_WITHIN:.0f} s.")
            if self.stopping.wait(0.1):
                raise CommandError("Stopped before the web server answered.")
        # Not before the workers answer: a call refused costs a task one of its attempts.
        say("Starting the scheduler")
        drain = conf.CREW_DRAIN_SECONDS + 10
        self.scheduler = Child("scheduler", ["manage.py", "runscheduler"], stops_within=drain)

    def watch(self, group: TaskGroup) -> bool:
        """Tell the progress until all is done; say whether it is."""
        shown = ""
        while True:
            done, total = progress(group)
            line = f"{done} of {total} tasks complete ({100 * done // max(total, 1)} %)"
            if line != shown:
                say(line)
                shown = line
            if done == total:
                return True
            self.check()
            if self.stopping.wait(0.2):
                return False

    def check(self) -> None:
        """Raise CommandError when a child has ended or the time is over."""
        for child in (self.web, self.scheduler):
            if child and (code := child.process.poll()) is not None and not self.stopping.is_set():
                raise CommandError(f"The {child.title} ended by itself, with code {code}.")
        if self.deadline and time.monotonic() > self.deadline:
            raise CommandError("The group was not complete in time.")

    def tell(self, group: TaskGroup, login: list[str]) -> None:
        say("")
        say("All done. Now look around:")
        say(f"  The group  {group.pk}")
        say(f"  The admin  {site_url()}admin/")
        for line in login:
            say(f"  {line}")
        if not self.once:
            say("Ctrl-C stops everything.")

    def stop_children(self) -> None:
        """The scheduler goes first: calls in flight still get their answers from the web."""
        asked = self.stops
        for child in (self.scheduler, self.web):
            if not child:
                continue
            if child.process.poll() is None:
                say(f"Stopping the {child.title}")
            child.process.terminate()
            give_up = time.monotonic() + child.stops_within
            while child.process.poll() is None:
                # Whoever asks again while we wait does not want to wait.
                if time.monotonic() > give_up or self.stops > asked:
                    child.process.kill()
                with contextlib.suppress(subprocess.TimeoutExpired):
                    child.process.wait(0.1)
            child.reader.join(timeout=2)


class Child:
    """A Python process whose lines appear here with its name before them."""

    def __init__(self, name: str, arguments: list[str], *, stops_within: float) -> None:
        self.name = name
        self.title = {"web": "web server"}.get(name, name)
        self.stops_within = stops_within
        libc = ctypes.CDLL(None) if sys.platform == "linux" else None
        parent = os.getpid()

        def die_with_parent() -> None:
            # For `kill -9`, after which we cannot stop anybody.
            if libc:
                libc.prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
                if os.getppid() != parent:
                    os._exit(1)

        # In a session of its own: Ctrl-C is for us, and we stop the children in order.
        self.process = subprocess.Popen(  # noqa: S603
            [sys.executable, *arguments],
            cwd=settings.BASE_DIR,
            env=os.environ | {"PYTHONUNBUFFERED": "1"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            start_new_session=True,
            preexec_fn=die_with_parent,
        )
        self.reader = threading.Thread(target=self._read, daemon=True)
        self.reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None  # noqa: S101
        for line in self.process.stdout:
            say(line.rstrip("\n"), who=self.name)


def complete_environment() -> dict[str, str]:
    """What the demo and its children are to be started with."""
    environment = dict(os.environ)
    if not settings.DEBUG and "DEBUG" in environment:
        raise CommandError("The demo is for development: DEBUG is set, to something else than 1.")
    environment["DEBUG"] = "1"
    if not environment.get("SECRET_KEY"):
        environment["SECRET_KEY"] = own_secret_key(settings.BASE_DIR / "var" / "secret_key")
    host = environment.setdefault("HOST", "127.0.0.1")
    wanted = int(environment.get("PORT", "8090"))
    port = next((port for port in range(wanted, wanted + 100) if is_free(host, port)), None)
    if port is None:
        raise CommandError(f"No free port found from {wanted} up.")
    if port != wanted:
        say(f"Port {wanted} is taken; using {port}.")
    environment["PORT"] = str(port)
    environment["CREW_WORKER_BASE_URL"] = site_url(environment) + "demo/"
    environment.setdefault("ALLOWED_HOSTS", f"localhost,127.0.0.1,[::1],{host}")
    environment[READY] = str(os.getpid())
    return environment


def own_secret_key(file: Path) -> str:
    """The key kept in this file, which only its owner can read; made when it is missing."""
    with contextlib.suppress(FileNotFoundError):
        if key := file.read_text().strip():
            return key
    file.parent.mkdir(exist_ok=True)
    key = secrets.token_urlsafe(50)
    with open(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as opened:
        opened.write(key)
    return key


def is_free(host: str, port: int) -> bool:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as probe:
        # As the server does: a port that was in use a minute ago is free.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return False
        return True


def make_operator() -> list[str]:
    """Make the account that may do everything, once; return what its owner must know."""
    users = get_user_model().objects
    name = os.environ.get("CREW_AUTH_USERNAME") or "admin"
    if users.filter(username=name).exists():
        return [
            f"The login  {name}, with the password it was made with",
            f"           (a new one: ./crew manage changepassword {name})",
        ]
    given = os.environ.get("CREW_AUTH_PASSWORD")
    password = given or secrets.token_urlsafe(12)
    users.create_superuser(username=name, email="", password=password)  # type: ignore[attr-defined]
    shown = "that of CREW_AUTH_PASSWORD" if given else f"{password} (not shown again)"
    return [f"The login  {name}", f"  password {shown}"]


def start_demo_group() -> TaskGroup:
    name = f"Demo of {datetime.now():%Y-%m-%d %H:%M:%S}"
    return create.create_group(name=name, tasks=[{"name": "Start", "worker": "worker-c"}])


def progress(group: TaskGroup) -> tuple[int, int]:
    tasks = Task.objects.filter(group_id=group.pk)
    return tasks.filter(is_complete=True).count(), tasks.count()


def site_url(environment: Mapping[str, str] = os.environ) -> str:
    """Where this machine finds the web server."""
    host, port = environment["HOST"], environment["PORT"]
    if host in EVERYWHERE:
        host = "127.0.0.1"
    return f"http://[{host}]:{port}/" if ":" in host else f"http://{host}:{port}/"


def answers(url: str) -> bool:
    # Not through a proxy that the environment may name.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(url, timeout=2) as response:
            return bool(response.status == 200)
    except OSError:
        return False


def say(text: str, who: str = "demo") -> None:
    # The terminal may be gone; what is under way is stopped all the same.
    with contextlib.suppress(OSError):
        print(f"{who:9} | {text}", flush=True)  # noqa: T201
