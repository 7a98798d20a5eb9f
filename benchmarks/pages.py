"""Hold the pages to their budgets in a real browser, on a store as it looks on a busy day.

    python -m benchmarks.pages [--database URL ...] [--only WORD ...] [--json FILE]

For each database a fresh `manage.py crewweb` as in production, but that it serves the static files
too. Each database must be empty; what is written into it (`crowded.py`) stays there. Needs a
Chromium, found as the browser tests find it. Exits with 1 when a budget is missed.
"""

import argparse
import json
import os
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from .stage import databases, kind_of

ROUNDS = 3
WRITES = 20
BUSY_SECONDS = 10.0
QUIET_SECONDS = 30


@dataclass(frozen=True, slots=True)
class Figure:
    """What was measured; `budget` is the most it may be, or the least, or None."""

    name: str
    measured: float
    unit: str
    budget: float | None = None
    is_least: bool = False

    @property
    def is_ok(self) -> bool:
        if self.budget is None or self.measured == self.budget:
            return True
        return (self.measured > self.budget) is self.is_least

    def __str__(self) -> str:
        limit = ""
        if self.budget is not None:
            limit = f"{'≥' if self.is_least else '≤'} {self.budget:g} {self.unit}"
        measured = f"{_short(self.measured)} {self.unit}"
        verdict = "" if self.budget is None else "ok" if self.is_ok else "OVER"
        return f"  {self.name:64} {limit:>14} {measured:>15}  {verdict}".rstrip()


Figures = Iterator[Figure]

# What a web server in front would do in production.
SERVE = """
import sys
from django.core.management import execute_from_command_line
import django
django.setup()
from django.contrib.staticfiles.handlers import ASGIStaticFilesHandler
from crewsite.asgi import application
served = application.application_mapping
served["http"] = ASGIStaticFilesHandler(served["http"])
execute_from_command_line(["manage.py", *sys.argv[1:]])
"""
ENVIRONMENT = {
    "ALLOWED_HOSTS": "127.0.0.1",
    "CREW_WORKER_BASE_URL": "http://127.0.0.1:9/",
    "DEBUG": "0",
    "DJANGO_SETTINGS_MODULE": "crewsite.settings",
    "LOG_LEVEL": "WARNING",
    "SECRET_KEY": "for a benchmark on this machine only",
}


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--database", action="append", help="an empty one; may be repeated")
    parser.add_argument("--only", action="append", choices=[part.__name__ for part in PARTS])
    parser.add_argument("--json", type=Path, help="write the figures here too")
    options = parser.parse_args()
    results: dict[str, list[dict[str, Any]]] = {}
    missed = 0
    with databases(options.database) as urls:
        for url in urls:
            # Django knows one database for the life of a process.
            with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as process:
                figures = process.submit(measure, url, options.only).result()
            results[kind_of(url)] = [asdict(figure) | {"ok": figure.is_ok} for figure in figures]
            missed += sum(not figure.is_ok for figure in figures)
    if options.json:
        options.json.write_text(json.dumps(results, indent=2))
    print(f"{missed} budgets missed." if missed else "All within their budgets.")
    return 1 if missed else 0


def measure(url: str, only: list[str] | None) -> list[Figure]:
    """Fill the database, and print and return all figures."""
    os.environ |= ENVIRONMENT | {"DATABASE_URL": url}
    print(f"{kind_of(url)}, load {os.getloadavg()[0]:.1f}: filling", flush=True)
    boss = _fill()
    from tests.browser import chromium
    from tests.browser.driver import started
    from tests.web import web

    figures = []
    with (
        web(code=SERVE, DEBUG="0", LOG_LEVEL="INFO") as running,
        started(chromium.find()) as browser,
    ):
        site = Site(running, browser, boss)
        for part in PARTS:
            if only and part.__name__ not in only:
                continue
            for figure in part(site):
                print(figure, flush=True)
                figures.append(figure)
        assert running.errors() == "", running.errors()
    return figures


def _fill() -> Any:
    import django
    from django.core.management import call_command

    django.setup()
    call_command("migrate", verbosity=0)
    from django.contrib.auth.models import User

    from . import crowded

    crowded.furnish()
    return User.objects.create_superuser("boss", password="a password of the benchmark")


class Site:
    """The server, and a browser that is logged in."""

    def __init__(self, web: Any, browser: Any, boss: Any) -> None:
        self.web = web
        self.browser = browser
        self.boss = boss

    def visit(self) -> Any:
        """Somebody who has nothing of the site in the cache."""
        from tests.browser.visit import Visit

        person = Visit(self.browser, self.web.url)
        person.log_in(self.boss)
        return person


# --- How long pages take, and what they load ---

ROW = "#result_list tbody tr"
PAGES = {
    "home": ("", "#crew-groups .crew-group"),
    "groups": ("crew/taskgroup/", f"{ROW} [data-group] .crew-group-foot"),
    "group of 100,000, tasks": (
        "crew/taskgroup/large/change/",
        "body:has(#crew-progress .crew-percent) #panel-tasks tr[data-id]",
    ),
    "group of 500, tasks": (
        "crew/taskgroup/middle/change/",
        "body:has(#crew-progress .crew-percent) #panel-tasks tr[data-id]",
    ),
    "task in the group of 100,000": (
        "crew/task/large.10.13/change/",
        "body:has(#crew-state .crew-percent) #crew-around .crew-node",
    ),
    "tasks": ("crew/task/", ROW),
    "workers": ("crew/worker/", ROW),
    "schedulers": ("crew/schedulerprocess/", ROW),
}
# When the content was painted: after the frame in which it came.
PAINTED = """(selector) => new Promise((resolve) => {
    const look = () => {
        if (!document.querySelector(selector)) return false;
        requestAnimationFrame(() => setTimeout(() => resolve(performance.now())));
        return true;
    };
    if (look()) return;
    new MutationObserver((_, observer) => look() && observer.disconnect())
        .observe(document, { childList: true, subtree: true, attributes: true });
})"""
# Headers included; of a stream's messages, which come without end, nothing.
LOADED = """(since) => {
    const kinds = ["navigation", "resource"];
    const all = kinds.flatMap((kind) => performance.getEntriesByType(kind));
    const own = all.filter((one) => one.startTime >= since);
    return [own.length, own.reduce((sum, one) => sum + one.transferSize, 0)];
}"""


def pages(site: Site) -> Figures:
    """The first visit of a browser to each page, when it loads the theme as well, and the next."""
    for name, (path, selector) in PAGES.items():
        rounds = [_visits(site, f"/admin/{path}", selector) for _ in range(ROUNDS)]
        firsts, nexts = zip(*rounds, strict=True)
        for words, visits, most_seconds, most_loaded in (
            ("first visit", firsts, 3.0, 2_500),
            ("next visit", nexts, 1.0, 400),  # a list of 100 rows, as it goes out uncompressed
        ):
            seconds, requests, loaded, foreign = zip(*visits, strict=True)
            what = f"{name}, {words}"
            yield Figure(f"{what}: to its content", statistics.median(seconds), "s", most_seconds)
            yield Figure(f"{what}: loaded", max(loaded) / 1_000, "kB", most_loaded)
            yield Figure(f"{what}: requests", max(requests), "", 80)
            yield Figure(f"{what}: requests to other hosts", sum(foreign), "", 0)


def _visits(site: Site, path: str, selector: str) -> list[tuple[float, int, float, int]]:
    person = site.visit()
    page = person.page
    page.add_init_script(f"window.painted = ({PAINTED})({json.dumps(selector)});")
    visits = []
    for _ in range(2):
        person.asked.clear()
        page.goto("about:blank")
        person.go(path)
        seconds = page.evaluate("window.painted") / 1_000
        page.wait_for_load_state("networkidle")
        requests, loaded = page.evaluate(LOADED, 0)
        foreign = sum(not _is_own(asked, site.web.url) for asked in person.asked)
        visits.append((seconds, requests, loaded, foreign))
    _leave(person)
    return visits


def _is_own(asked: str, url: str) -> bool:
    own = url.partition("://")[2]
    return asked.startswith("data:") or asked.partition("://")[2].startswith(own)


# --- The graph ---

# From the click on the tab to the painted graph.
OPEN_GRAPH = f"""async () => {{
    const painted = {PAINTED};
    const from = performance.now();
    document.querySelector("#tab-graph").click();
    return [from, await painted("#panel-graph .crew-node")];
}}"""


def graphs(site: Site) -> Figures:
    """From the click on the tab to the picture. The server remembers the levels of a large one."""
    firsts, nexts = [], []
    for _ in range(ROUNDS):
        _touch("large")
        firsts.append(_open_graph(site, "large"))
        nexts.append(_open_graph(site, "large"))
    middles = [_open_graph(site, "middle") for _ in range(ROUNDS)]
    for name, opened in (
        ("graph of 100,000, first look", firsts),
        ("graph of 100,000, again", nexts),
        ("graph of 500", middles),
    ):
        seconds, loaded = zip(*opened, strict=True)
        yield Figure(f"{name}: from click to painted", statistics.median(seconds), "s", 1.0)
        yield Figure(f"{name}: loaded, scripts included", max(loaded) / 1_000, "kB", 200)


def _touch(group_id: str) -> None:
    """A task comes: what is remembered of the group's levels counts no more."""
    from tasks import create

    create.create_tasks(group_id, [{"name": "One more", "worker": "worker-0"}])


def _open_graph(site: Site, group_id: str) -> tuple[float, float]:
    person = _on_group(site, group_id)
    page = person.page
    page.wait_for_load_state("networkidle")
    begun, painted = page.evaluate(OPEN_GRAPH)
    _, loaded = page.evaluate(LOADED, begun)
    _leave(person)
    return (painted - begun) / 1_000, loaded


# --- While much happens ---

# What the page does in the time: pictures drawn, and pieces of work that block it.
WATCH = """async (ms) => {
    let drawn = 0;
    const blocked = [];
    new MutationObserver(() => (drawn += 1))
        .observe(document.querySelector(".crew-scene"), { childList: true });
    new PerformanceObserver((list) => blocked.push(...list.getEntries().map((e) => e.duration)))
        .observe({ type: "longtask" });
    const from = performance.now();
    await new Promise((resolve) => setTimeout(resolve, ms));
    return [drawn, blocked, (performance.now() - from) / 1000];
}"""


def busy(site: Site) -> Figures:
    """The graph of 100,000 tasks while 2,000 a second change, and while 400 come."""
    yield from _watch_graph(site, "2,000 changes/s", 2_000, _changes())
    yield from _watch_graph(site, "400 new tasks/s", 400, _births())


def _watch_graph(site: Site, words: str, rate: int, write: Callable[[int], None]) -> Figures:
    person = _on_group(site, "large")
    page = person.page
    page.evaluate(OPEN_GRAPH)
    with _Writer(write, rate) as writer:
        person.asked.clear()
        drawn, blocked, seconds = page.evaluate(WATCH, BUSY_SECONDS * 1_000)
        asked = sum(url.endswith("/graph") for url in person.asked)
    person.check()
    live = page.locator("#crew-live").text_content()
    _leave(person)
    assert live == "live", live
    name = f"graph at {words}"
    yield Figure(f"{name}: written", writer.rate, "/s", 0.9 * rate, is_least=True)
    yield Figure(f"{name}: asked for", asked / seconds, "/s", 2.0)
    yield Figure(f"{name}: drawn", drawn / seconds, "/s", 2.0)
    yield Figure(f"{name}: drawn at least", drawn / seconds, "/s", 0.1, is_least=True)
    yield Figure(f"{name}: the page is blocked", sum(blocked) / seconds / 10, "%", 50)
    yield Figure(f"{name}: longest block", max(blocked, default=0), "ms", 250)


def _changes() -> Callable[[int], None]:
    """Pauses ready tasks, then resumes them: two states of each, seen by everyone."""
    from django.db import transaction

    from tasks.models import Task
    from tasks.store import changes

    from . import crowded

    ids = crowded.ready_ids("large", 1_000)
    turn = 0

    def write(count: int) -> None:
        nonlocal turn
        start, is_paused = turn % len(ids), turn // len(ids) % 2 == 0
        some = ids[start : start + count]
        turn += len(some)
        with transaction.atomic():
            Task.objects.filter(pk__in=some).update(is_paused=is_paused)
            changes.tasks_changed(("large", id_) for id_ in some)

    return write


def _births() -> Callable[[int], None]:
    from tasks import create

    def write(count: int) -> None:
        create.create_tasks("large", [{"worker": "worker-0"} for _ in range(count)])

    return write


class _Writer:
    """Writes so many a second, in 20 transactions, by a thread; slower where it cannot."""

    def __init__(self, write: Callable[[int], None], rate: int) -> None:
        from threading import Event, Thread

        self._write = write
        self._count = rate // 20
        self._over = Event()
        self._thread = Thread(target=self._run)
        self.rate = 0.0

    def __enter__(self) -> "_Writer":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _run(self) -> None:
        from django.db import connection

        begun = time.monotonic()
        turns = 0
        while not self._over.wait(max(0.0, begun + turns / 20 - time.monotonic())):
            self._write(self._count)
            turns += 1
        self.rate = turns * self._count / (time.monotonic() - begun)
        connection.close()


# --- Until a change is seen ---

# By the browser's own clock, from the API's call to the words on the page.
SEEN = """async ([path, id, place, words]) => {
    const token = document.querySelector("[data-crew-csrf]").dataset.crewCsrf;
    const says = () => document.querySelector(place)?.textContent.includes(words);
    const seen = new Promise((resolve) => {
        new MutationObserver((_, observer) => {
            if (!says()) return;
            observer.disconnect();
            requestAnimationFrame(() => setTimeout(() => resolve(performance.now())));
        }).observe(document.querySelector(".crew-page"),
            { childList: true, subtree: true, characterData: true });
    });
    const headers = { "X-CSRFToken": token, "Content-Type": "application/json" };
    const from = performance.now();
    const body = JSON.stringify({ ids: [id] });
    const answer = await fetch(path, { method: "POST", headers, body });
    if (!answer.ok || says() === undefined) throw new Error(`${answer.status}: ${place}`);
    return ((await seen) - from) / 1000;
}"""


def changes(site: Site) -> Figures:
    """A person pauses and resumes a task, and another page tells."""
    from . import crowded

    for group_id, count in (("middle", "500"), ("large", "100,000")):
        task_id = crowded.ready_ids(group_id, 1)[0]
        row = f'#panel-tasks [data-id="{task_id}"]'
        for name, path, place in (
            ("group", f"taskgroup/{group_id}/change/#tasks?q={task_id}", row),
            ("task", f"task/{task_id}/change/", "#crew-state .crew-badge"),
        ):
            seconds = _until_seen(site, group_id, task_id, path, place)
            what = f"a change on the page of the {name}, {count}"
            yield Figure(f"{what}: median of {WRITES}", statistics.median(seconds), "s", 1.0)
            yield Figure(f"{what}: worst of {WRITES}", max(seconds), "s", 1.0)


def _until_seen(site: Site, group_id: str, task_id: str, path: str, place: str) -> list[float]:
    person = site.visit()
    page = person.go(f"/admin/crew/{path}")
    _be_live(page)
    page.wait_for_selector(place)
    tasks = f"/api/v1/task_group/{group_id}/tasks"
    seconds = [
        page.evaluate(SEEN, [f"{tasks}/{verb}", task_id, place, word])
        for verb, word in [("pause", "paused"), ("resume", "ready")] * (WRITES // 2)
    ]
    _leave(person)
    return seconds


# --- A tab that nobody looks at ---

HIDE = """() => {
    Object.defineProperty(document, "hidden", { value: true });
    Object.defineProperty(document, "visibilityState", { value: "hidden" });
    document.dispatchEvent(new Event("visibilitychange"));
}"""


def hidden(site: Site) -> Figures:
    """After it let go of its socket, which it does in ten seconds."""
    for name in ("home", "groups", "group of 500, tasks", "task in the group of 100,000"):
        person = site.visit()
        page = person.page
        page.clock.install()
        person.go(f"/admin/{PAGES[name][0]}")
        _be_live(page)
        page.evaluate(HIDE)
        page.clock.run_for(15_000)
        page.wait_for_load_state("networkidle")
        before = len(person.asked)
        page.clock.run_for(QUIET_SECONDS * 1_000)
        page.wait_for_load_state("networkidle")
        open_ = sum(not socket.is_closed() for socket in person.sockets)
        yield Figure(
            f"{name}, hidden: requests in {QUIET_SECONDS} s", len(person.asked) - before, "", 0
        )
        yield Figure(f"{name}, hidden: open sockets", open_, "", 0)
        _leave(person)


# --- What the server needs for it ---


def routes(site: Site) -> Figures:
    """From the first byte sent to the last of the answer, with nothing else to do."""
    path = "/api/v1/task_group/large"
    yield from _route(site, "progress", f"{path}/progress", budget=0.2)
    yield from _route(site, "graph, first look", f"{path}/graph", budget=0.9, before=_touch)
    yield from _route(site, "graph, again", f"{path}/graph", budget=0.4)
    yield from _route(site, "tasks", f"{path}/tasks?page=1&pageSize=20", budget=0.2)
    yield from _route(site, "overview", "/api/v1/overview", budget=0.3)
    yield from _route(site, "failures", "/api/v1/failures", budget=0.3)


def _route(
    site: Site,
    name: str,
    path: str,
    *,
    budget: float,
    before: Callable[[str], None] | None = None,
) -> Figures:
    seconds = []
    for _ in range(ROUNDS if before else 10):
        if before:
            before("large")
        begun = time.monotonic()
        site.web.call("GET", path)
        seconds.append(time.monotonic() - begun)
    yield Figure(f"route {name}: median", statistics.median(seconds), "s", budget)
    yield Figure(f"route {name}: worst", max(seconds), "s")


PARTS = (graphs, changes, hidden, routes, busy, pages)


def _on_group(site: Site, group_id: str) -> Any:
    person = site.visit()
    page = person.go(f"/admin/crew/taskgroup/{group_id}/change/")
    _be_live(page)
    page.wait_for_selector("#panel-tasks tr[data-id]")
    return person


def _be_live(page: Any) -> None:
    from tests.browser.driver import expect

    expect(page.locator("#crew-live")).to_have_text("live")


def _leave(person: Any) -> None:
    person.close()
    person.check()


def _short(value: float) -> str:
    return f"{value:,.3f}" if value < 1 else f"{value:,.2f}" if value < 100 else f"{value:,.0f}"


if __name__ == "__main__":
    sys.exit(main())
