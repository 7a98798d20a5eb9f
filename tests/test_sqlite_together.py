"""Web server, scheduler and admin on one SQLite file, all writing at once (F20).

For `CREW_TOGETHER_SECONDS`, 5 unless said.
"""

import os
import re
import threading
from collections import Counter

import pytest
import requests

from tasks.models import Task

from .processes import scheduler, sink, wait_until
from .web import TOKEN, web

pytestmark = [pytest.mark.sqlite, pytest.mark.django_db(transaction=True)]

SECONDS = float(os.environ.get("CREW_TOGETHER_SECONDS", "5"))
LOCKED = re.compile("is locked|is busy", re.IGNORECASE)
OPERATOR = {"CREW_AUTH_USERNAME": "boss", "CREW_AUTH_PASSWORD": "a-long-password-of-tests"}


class Crowd:
    """Threads that call the site until they are asked to stop, and what they were answered."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.stopping = threading.Event()
        self.statuses: Counter[tuple[str, int]] = Counter()
        self.bad: list[str] = []
        self._lock = threading.Lock()
        self._threads: list[threading.Thread] = []

    def add(self, work, count: int = 1) -> None:
        for _ in range(count):
            self._threads.append(threading.Thread(target=self._again_and_again, args=[work]))

    def run(self) -> None:
        for thread in self._threads:
            thread.start()
        self.stopping.wait(SECONDS)
        self.stopping.set()
        for thread in self._threads:
            thread.join(30)

    def note(self, what: str, answer: requests.Response) -> requests.Response:
        with self._lock:
            self.statuses[what, answer.status_code] += 1
            if answer.status_code >= 500 or LOCKED.search(answer.text):
                self.bad.append(f"{what}: {answer.status_code} {answer.text[:300]}")
        return answer

    def _again_and_again(self, work) -> None:
        with requests.Session() as session:
            session.trust_env = False
            steps = work(self, session)
            while not self.stopping.is_set():
                next(steps)


def create_and_read(crowd, session):
    session.headers["Authorization"] = f"Bearer {TOKEN}"
    body = {"tasks": [{"worker": "noop"}] * 20}
    while True:
        made = crowd.note("create", session.post(f"{crowd.url}/api/v1/task_groups", json=body))
        path = f"{crowd.url}/api/v1/task_group/{made.json()['id']}"
        crowd.note("pause", session.post(f"{path}/pause"))
        crowd.note("list", session.get(f"{path}/tasks"))
        crowd.note("resume", session.post(f"{path}/resume"))
        yield


def operate(crowd, session):
    """A person in the admin: looks at lists and runs the action on all groups of a page."""
    page = crowd.note("login page", session.get(f"{crowd.url}/admin/login/"))
    data = {"username": "boss", "password": OPERATOR["CREW_AUTH_PASSWORD"]}
    data["csrfmiddlewaretoken"] = csrf(page)
    home = session.post(f"{crowd.url}/admin/login/?next=/admin/", data=data)
    assert "logout" in crowd.note("login", home).text
    groups = f"{crowd.url}/admin/crew/taskgroup/"
    while True:
        page = crowd.note("groups", session.get(groups))
        ids = re.findall(r'name="_selected_action" value="([^"]+)"', page.text)[:5]
        data = {"csrfmiddlewaretoken": csrf(page), "action": "retry", "_selected_action": ids}
        crowd.note("action", session.post(groups, data=data))
        yield


def csrf(page: requests.Response) -> str:
    return re.search(r'name="csrfmiddlewaretoken" value="([^"]+)"', page.text)[1]


def test_web_scheduler_and_admin_write_at_once_and_nobody_hears_of_a_lock(tmp_path):
    with (
        sink(tmp_path) as worker,
        web(**OPERATOR) as served,
        scheduler(worker.url, CREW_LEASE_SECONDS="30") as process,
    ):
        crowd = Crowd(served.url)
        crowd.add(create_and_read, 3)
        crowd.add(operate, 2)
        crowd.run()
        wait_until(lambda: not Task.objects.filter(is_complete=False, is_paused=False), 60)
        process.terminate()
        assert process.wait(20) == 0
        logged = process.stderr.read() + "".join(served.lines)

    print(dict(crowd.statuses))
    assert crowd.bad == []
    assert {what for what, _ in crowd.statuses} >= {"create", "pause", "resume", "action"}
    assert all(status < 400 for _, status in crowd.statuses)
    assert not LOCKED.search(logged)
    assert "Traceback" not in logged
