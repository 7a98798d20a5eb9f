"""Watchers that know a group from its stream alone, and somebody who does everything to it.

A watcher loads the group once, and again only when it is told to; its socket is cut in the middle
of batches, it stops reading for a while, and the server it asks is killed. In the end its picture
must be what the rows say. All choices come from one seed.
"""

import asyncio
import contextlib
import json
import threading
from collections.abc import Callable, Iterator
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import count, pairwise
from random import Random
from typing import Any

import aiohttp
from django.db import OperationalError, connection
from django.utils import timezone

from tasks import control, create, edit, limits_and_holds
from tasks.errors import CrewError
from tasks.models import Task

from .web import TOKEN, Clients, Web, path_of

GROUP = "g"
WORKGROUPS = ("", "", "shop", "bank")
# A web process in which what takes thousands of tasks elsewhere takes dozens.
TIGHT = """
import sys
import django
from django.core.management import execute_from_command_line
django.setup()
from tasks.live import hub, messages, pacing, socket_queue
pacing.FRAMES, pacing.RELOAD_REST = 150, 0.1
hub.MOST_FLUSHED, hub.MOST_MISSED = 20, 60
messages.MOST_HELD = 20
socket_queue.MOST_MESSAGES = 120
execute_from_command_line(["manage.py", *sys.argv[1:]])
"""


class Picture:
    """A watcher: what it believes the tasks of the group to be."""

    def __init__(self, name: str, clients: Clients, urls: list[str], seed: int) -> None:
        self.name = name
        self.tasks: dict[str, Any] = {}
        self.heard = 0
        self.trouble: list[str] = []  # the newest last, for when it goes wrong
        self._clients = clients
        self._urls = urls
        self._chance = Random(f"{seed} {name}")
        self._since: int | str = ""
        self._must_load = True
        self._is_calm = False
        self._socket: Any = None
        self._may_read = asyncio.Event()
        self._may_read.set()
        self._running = asyncio.run_coroutine_threadsafe(self._run(), clients.loop)

    # --- What is done to it; from any thread ---

    def cut(self) -> None:
        """Its connection is gone, whatever was on its way."""
        self._in_loop(self._abort)

    def stop_reading(self) -> None:
        self._in_loop(self._may_read.clear)

    def go_on(self) -> None:
        self._in_loop(self._may_read.set)

    def calm_down(self) -> None:
        """Hear the rest in peace."""
        self._is_calm = True
        self.go_on()

    def end(self) -> None:
        self._running.cancel()
        with contextlib.suppress(BaseException):
            self._running.result(5)

    def _in_loop(self, what: Callable[[], None]) -> None:
        self._clients.loop.call_soon_threadsafe(what)

    def _abort(self) -> None:
        with contextlib.suppress(AttributeError):
            self._socket._response.connection.transport.abort()

    # --- What it does ---

    async def _run(self) -> None:
        while True:
            try:
                await self._watch(self._chance.choice(self._urls))
            except (aiohttp.ClientError, ConnectionError, TimeoutError, OSError) as error:
                self._note(f"lost: {error!r}")
            await asyncio.sleep(0.02)  # as clients wait before they come back

    async def _watch(self, url: str) -> None:
        path = path_of(GROUP, since=self._since)
        options: dict[str, Any] = {"max_msg_size": 0, "heartbeat": 5}
        async with self._clients.session.ws_connect(url + path, **options) as self._socket:
            self._note(f"open since {self._since}")
            cut_after = self._chance.choice([1, 2, 5, 20, 60, None])
            for number in count(1):
                await self._may_read.wait()
                if self._must_load and self._since != "":
                    await self._load(url)
                message = await self._socket.receive()
                if message.type != aiohttp.WSMsgType.TEXT:
                    self._note(f"closed: {self._socket.close_code}")
                    return
                self._hear(json.loads(message.data))
                if number == cut_after and not self._is_calm:
                    self._note("cut")
                    self._abort()
                    return

    async def _load(self, url: str) -> None:
        headers = {"Authorization": f"Bearer {TOKEN}"}
        path = f"{url}/api/v1/task_group/{GROUP}/tasks?pageSize=0"
        async with self._clients.session.get(path, headers=headers) as answer:
            answer.raise_for_status()
            told = await answer.json()
        self.tasks = {task["id"]: task for task in told["tasks"]}
        self._must_load = False
        self._note(f"loaded {len(self.tasks)}")

    def _hear(self, message: dict[str, Any]) -> None:
        self.heard += 1
        kind, task = message["type"], message.get("task")
        if kind in ("reload", "resync"):
            self._must_load = True
        elif task and kind == "delete":
            self.tasks.pop(task["id"], None)
        elif task:
            self.tasks[task["id"]] = task
        elif kind == "delete":
            self.tasks = {}
        self._since = message.get("change", self._since)
        self._note(f"{kind} {(task or {}).get('id', '')} {message.get('change')}")

    def _note(self, text: str) -> None:
        self.trouble = [*self.trouble[-200:], text]


class Site:
    """The web process, which can be killed at any time and comes back at its address."""

    def __init__(self, *, is_tight: bool) -> None:
        self._code = TIGHT if is_tight else ""
        self.web = Web(code=self._code)
        self.url = self.web.url

    def kill(self) -> None:
        self.web.process.kill()
        self.web.stop()
        self.web = Web(code=self._code, port=self.web.address[1])

    def errors(self) -> str:
        return self.web.errors()


class Doer:
    """Does everything that can be done to the group: each deed by chance."""

    def __init__(self, seed: int, site: Site, pictures: list[Picture]) -> None:
        self._chance = Random(seed)
        self._site = site
        self._pictures = pictures
        self._names = count()
        self.deeds: list[str] = []
        often = [self.create, self.create_many, self.edit, self.edit, self.complete, self.delete]
        often += [self.pause, self.resume, self.retry, self.reset, self.rerun, self.hold]
        often += [self.cut, self.listen, self.listen, self.listen, self.stop_reading, self.hold]
        rare = [self.pause_group, self.resume_group, self.reset_group, self.retry_group]
        rare += [self.cancel_group, self.cut_all, self.create_very_many]
        self._choices = often * 4 + rare * 2 + [self.delete_group]

    def do(self, times: int) -> None:
        """So many deeds by chance; somewhere in the midst of them the server is killed."""
        kill_at = self._chance.randrange(times)
        for number in range(times):
            deed = self.kill_server if number == kill_at else self._chance.choice(self._choices)
            self.deeds.append(deed.__name__)
            for _ in range(20):
                try:
                    deed()
                except OperationalError:
                    continue  # the database is busy; nothing was done
                except CrewError as error:
                    self.deeds.append(f"  refused: {error}")
                break

    # --- Tasks come and go ---

    def create(self) -> None:
        self._post("tasks", self._wire())

    def create_many(self) -> None:
        tasks = [self._wire() for _ in range(self._chance.choice([2, 5, 50]))]
        for before, task in pairwise(tasks):
            if self._chance.random() < 0.3:
                task["parentIds"] = [before["id"]]
        if self._chance.random() < 0.5:
            self._post("tasks/bulk", {"tasks": tasks})
        else:
            create.create_tasks(GROUP, tasks)

    def create_very_many(self) -> None:
        tasks = [self._wire() | {"isPaused": True} for _ in range(150)]
        self._post("tasks/bulk", {"tasks": tasks})

    def delete(self) -> None:
        children = self._chance.choice(["cascade", "detach"])
        control.delete_tasks(GROUP, self._some(), children=children)

    # --- One or some of them ---

    def edit(self) -> None:
        changes: dict[str, Any] = {"name": f"n{next(self._names)}"}
        if self._chance.random() < 0.5:
            changes["workgroup"] = self._chance.choice(WORKGROUPS)
        if self._chance.random() < 0.3:
            changes["key"] = self._chance.choice(["", "k", "l"])
        if self._chance.random() < 0.3:
            changes["run_after"] = self._chance.choice(
                [None, timezone.now() + timedelta(seconds=0.2)]
            )
        if self._chance.random() < 0.3:
            changes["parent_ids"] = self._some(2)
        for id_ in self._some(1):
            edit.edit_task(GROUP, id_, changes)

    def complete(self) -> None:
        for id_ in self._some(1):
            is_complete = self._chance.random() < 0.7
            edit.edit_task(GROUP, id_, {"is_complete": is_complete, "output": next(self._names)})

    def rerun(self) -> None:
        for id_ in self._some(1):
            edit.rerun_task(GROUP, id_, {"input": self._input()})

    def pause(self) -> None:
        control.pause_tasks(GROUP, self._some())

    def resume(self) -> None:
        control.resume_tasks(GROUP, self._some(20))

    def retry(self) -> None:
        control.retry_tasks(GROUP, self._some(20))

    def reset(self) -> None:
        control.reset_tasks(GROUP, self._some())

    def hold(self) -> None:
        seconds = self._chance.choice([0, 0.05, 0.3, 1.0])
        limits_and_holds.hold_workgroup(self._chance.choice(WORKGROUPS[2:]), seconds=seconds)

    # --- The group ---

    def pause_group(self) -> None:
        control.pause_group(GROUP)

    def resume_group(self) -> None:
        control.resume_group(GROUP)

    def reset_group(self) -> None:
        control.reset_group(GROUP)

    def retry_group(self) -> None:
        control.retry_group(GROUP)

    def cancel_group(self) -> None:
        control.cancel_group(GROUP)

    def delete_group(self) -> None:
        control.delete_group(GROUP)
        create.create_group(id=GROUP)

    # --- Those who watch ---

    def listen(self) -> None:
        """Until somebody heard something, if there is anything to be heard."""
        before = [picture.heard for picture in self._pictures]
        limit = threading.Event()
        for _ in range(20):
            if [picture.heard for picture in self._pictures] != before:
                break
            limit.wait(0.02)

    def cut(self) -> None:
        self._chance.choice(self._pictures).cut()

    def cut_all(self) -> None:
        for picture in self._pictures:
            picture.cut()

    def stop_reading(self) -> None:
        """One of them, and the one that had stopped goes on."""
        for picture in self._pictures:
            picture.go_on()
        self._chance.choice(self._pictures).stop_reading()

    def kill_server(self) -> None:
        self._site.kill()

    # --- Choices ---

    def _wire(self) -> dict[str, Any]:
        return {
            "id": f"t{next(self._names)}",
            "worker": self._chance.choice(["w", "v", "", "w"]),
            "workgroup": self._chance.choice(WORKGROUPS),
            "key": self._chance.choice(["", "", "", "k"]),
            "remainingAttempts": self._chance.choice([5, 1, 2]),
            "errorDelayInSeconds": self._chance.choice([0, 0, 1]),
            "isSeed": self._chance.random() < 0.2,
            "isPaused": self._chance.random() < 0.1,
            "input": self._input(),
        }

    def _input(self) -> dict[str, Any]:
        return {"do": self._chance.choice(["ok", "ok", "fail", "hold", "children", "slow"])}

    def _some(self, most: int = 5) -> list[str]:
        ids = sorted(Task.objects.filter(group_id=GROUP).values_list("id", flat=True))
        return self._chance.sample(ids, min(len(ids), self._chance.randint(1, most)))

    def _post(self, path: str, body: Any) -> None:
        try:
            self._site.web.call("POST", f"/api/v1/task_group/{GROUP}/{path}", body)
        except OSError as error:  # an HTTPError is one
            self.deeds.append(f"  refused: {error}")


# --- The worker ---------------------------------------------------------------------------------


class _Answers(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        call = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        what = (call["input"] or {}).get("do", "ok")
        status, said = 200, {"output": {"of": call["taskId"]}}
        if what == "fail":
            status, said = 500, {"error": "it failed"}
        elif what == "hold":
            said = {"error": "too often", "workgroupDelayInSeconds": 0.2}
        elif what == "children":
            child = {"worker": "w", "input": {"do": "ok"}}
            said |= {"children": [child, child | {"key": "k"}], "childrenDelayInSeconds": 0.1}
        elif what == "slow":
            self.server.stopping.wait(0.3)
        body = json.dumps(said).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        pass


@contextlib.contextmanager
def worker() -> Iterator[str]:
    """Its URL. It does what the input of a task says."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Answers)
    server.daemon_threads = True
    server.stopping = threading.Event()
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/"
    finally:
        server.stopping.set()
        server.shutdown()
        server.server_close()
        thread.join(5)
        connection.close()
