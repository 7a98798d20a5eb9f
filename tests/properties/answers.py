"""Answers of every kind: what a worker sends, and what the contract says it means."""

import json
from collections.abc import Callable
from dataclasses import dataclass

from django.utils import timezone
from hypothesis import strategies as st

from tasks.engine.lease import Lease
from tasks.engine.settlement import Returned
from tasks.rules.decide import CANCELLED, Answer, Decided, decide

from .model import Said, Task

KINDS = (
    "output",
    "output",
    "output",
    "empty",
    "children",
    "children",
    "taken",
    "strangers",
    "error",
    "sdk_error",
    "retry_after",
    "junk",
    "redirect",
    "nothing",
    "unsent",
    "timeout",
    "cut",
)


@dataclass(frozen=True)
class Shape:
    """A task to be; numbers are places in what the machine has to choose from."""

    worker: int
    workgroup: int
    key: int
    left: int
    delay: int
    due: int
    is_paused: bool
    is_complete: bool
    is_seed: bool
    parents: tuple[int, ...]


@dataclass(frozen=True)
class Answered:
    """`hold` and `put_off` are the delays it asks for, in units."""

    kind: str
    hold: int
    put_off: int

    def read(
        self, lease: Lease, token: int, made: Callable[[Lease], list[Task]], unit: int
    ) -> tuple[Decided | Returned, Said]:
        """As the scheduler reads it, and as the contract means it. `token` tells it apart."""
        children = made(lease) if self.kind == "children" else []
        if children:
            children[1].parents = [children[0].id]
        if self.kind == "unsent":
            return Returned(self.hold * unit), Said("returned", wait=self.hold)
        sent = self._sent(lease, token, children, unit)
        real = decide(
            sent,
            workgroup=lease.workgroup,
            now=timezone.now(),
            error_delay=lease.error_delay,
        )
        return real, self._meant(lease, token, tuple(children))

    def _sent(self, lease: Lease, token: int, children: list[Task], unit: int) -> Answer:
        body: dict[str, object] = {
            "workgroupDelayInSeconds": self.hold * unit,
            "childrenDelayInSeconds": self.put_off * unit,
        }
        result = [
            {"id": c.id, "worker": c.worker, "parentIds": c.parents, "errorDelayInSeconds": 0}
            for c in children
        ]
        # The creation order is not that of the edges.
        result.reverse()
        extra: dict[str, dict[str, object]] = {
            "output": {"output": token},
            "children": {"output": token, "children": result},
            "taken": {"children": [{"id": lease.task_id, "worker": "w"}]},
            "strangers": {"children": [{"worker": "w", "parentIds": ["nobody"]}]},
            "error": {"error": f"error {token}"},
            "sdk_error": {"error": f"error {token}", "output": token},
        }
        raw = json.dumps(body | extra.get(self.kind, {})).encode()
        match self.kind:
            case "empty":
                return Answer(200)
            case "error":
                return Answer(500, raw)
            case "retry_after":
                return Answer(429, b"", str(unit))
            case "junk":
                return Answer(200, b"<html>")
            case "redirect":
                return Answer(302, b"")
            case "nothing":
                return Answer(None, error="no connection")
            case "timeout":
                return Answer(None, error="no complete answer", may_run=True)
            case "cut":
                return Answer(None, error=CANCELLED, may_run=True)
        return Answer(200, raw)

    def _meant(self, lease: Lease, token: int, children: tuple[Task, ...]) -> Said:
        hold, put_off = self.hold, self.put_off
        holds = bool(hold and lease.workgroup)
        match self.kind:
            case "output" | "children":
                return Said("completed", token, "", 0, hold, put_off, children)
            case "empty":
                return Said("completed")
            case "retry_after":
                return Said("held", wait=1, hold=1)
            case "taken":
                return Said("failed", None, "taken", 0, hold, put_off)
            case "strangers":
                return Said("failed", None, "strangers", 0, hold, put_off)
            case "error" | "sdk_error" if holds:
                return Said("held", wait=hold, hold=hold, put_off=put_off)
            case "error":
                return Said("failed", None, f"error {token}", 0, 0, put_off)
            case "sdk_error":
                return Said("failed", token, f"error {token}", 0, 0, put_off)
            case "cut":
                return Said("interrupted", may_run=True)
        return Said("failed", None, self.kind, may_run=self.kind == "timeout")


def gist(error: str) -> str:
    """The model's word for an error text."""
    words = {
        "in use already": "taken",
        "is not a child of this answer": "strangers",
        "not JSON": "junk",
        "redirects": "redirect",
        "no connection": "nothing",
        "no complete answer": "timeout",
        "abandoned": "abandoned",
        "cancelled": "cancelled",
    }
    known = next((word for text, word in words.items() if text in error), None)
    return known or "error " + error.rpartition("error ")[2]


answers = st.builds(
    Answered, st.sampled_from(KINDS), st.sampled_from([0, 0, 1, 2]), st.sampled_from([0, 0, 1])
)
rarely = st.sampled_from([False] * 7 + [True])
shapes = st.builds(
    Shape,
    worker=st.integers(0, 5),
    workgroup=st.integers(0, 3),
    key=st.integers(0, 3),
    left=st.sampled_from([2, 1, 3, 2, 1, 3, 0]),
    delay=st.integers(0, 1),
    due=st.sampled_from([0, 0, 0, 0, 0, 1]),
    is_paused=rarely,
    is_complete=rarely,
    is_seed=rarely,
    parents=st.one_of(st.just(()), st.lists(st.integers(0, 11), max_size=2).map(tuple)),
)
