"""Whoever watches a group has its true picture in the end, whatever happened on the way.

CREW_PICTURE_SEEDS=0:100 pytest tests/test_pictures.py       (a quarter of a minute each)
"""

import json
import os
import signal
from typing import Any

import pytest

from tasks import create
from tasks.models import Task
from tasks.store import wire

from .pictures import GROUP, Doer, Picture, Site, worker
from .processes import scheduler, wait_until
from .web import Clients

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.timeout(300)]

FROM, _, TO = os.environ.get("CREW_PICTURE_SEEDS", "0:3").partition(":")
WATCHERS, DEEDS = 4, 70


@pytest.mark.parametrize("seed", range(int(FROM), int(TO)))
def test_every_picture_is_that_of_the_rows_in_the_end(seed: int) -> None:
    create.create_group(id=GROUP)
    clients = Clients()
    site = Site(is_tight=seed % 2 == 1)
    names = [f"watcher {number}" for number in range(WATCHERS)]
    pictures = [Picture(name, clients, [site.url], seed) for name in names]
    doer = Doer(seed, site, pictures)
    try:
        with worker() as url, scheduler(url, "--slots", "6") as process:
            doer.do(DEEDS)
            process.send_signal(signal.SIGTERM)
            process.wait(60)
        for picture in pictures:
            picture.calm_down()
        try:
            wait_until(lambda: all(_unlike(each) == {} for each in pictures), 60)
        except AssertionError:
            wrong = next(each for each in pictures if _unlike(each))
            story = "\n".join([*doer.deeds, wrong.name, *wrong.trouble])
            raise AssertionError(f"{_unlike(wrong)}\n{story}") from None
        assert site.errors() == ""
    finally:
        for picture in pictures:
            picture.end()
        clients.close()
        site.web.stop()


def _unlike(picture: Picture) -> dict[str, Any]:
    """What the picture has otherwise than the rows: of each task what it has, and what is so."""
    rows = list(Task.objects.filter(group_id=GROUP))
    real = {task["id"]: _told(task) for task in json.loads(json.dumps(wire.tasks(rows)))}
    seen = {id_: _told(task) for id_, task in picture.tasks.items()}
    return {
        id_: _difference(seen.get(id_, {}), real.get(id_, {}))
        for id_ in seen.keys() | real.keys()
        if seen.get(id_) != real.get(id_)
    }


def _told(task: dict[str, Any]) -> dict[str, Any]:
    """Without what comes of time alone."""
    return task | {"state": "due"} if task["state"] in ("ready", "scheduled") else task


def _difference(seen: dict[str, Any], real: dict[str, Any]) -> dict[str, Any]:
    words = seen.keys() | real.keys()
    return {w: (seen.get(w), real.get(w)) for w in words if seen.get(w) != real.get(w)}
