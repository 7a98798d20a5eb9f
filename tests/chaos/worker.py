"""The worker of a chaos run: logs each call before it answers, and often answers badly.

    python -m tests.chaos.worker --log FILE --seed N

Lines of JSON, in the order things happened: `{"is": "call", ...}` when a call is there whole, then
`{"is": "answer", ...}` when all of the answer is handed to the system, or `{"is": "gone", ...}`
when the connection has ended before.
"""

import argparse
import asyncio
import contextlib
import json
import os
import signal
import time
from random import Random
from typing import Any

Json = dict[str, Any]

LOST, LATE = 0.03, 0.02  # parts of all answers
LATE_MOST = 7.0  # seconds


class Log:
    """Each line is in the file when `add` returns, whatever happens to this process then."""

    def __init__(self, path: str) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)

    def add(self, line: Json) -> None:
        os.write(self._file, json.dumps(line | {"at": time.time()}).encode() + b"\n")


class Worker:
    def __init__(self, log: Log, seed: int) -> None:
        self._log = log
        self._seed = seed

    async def converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while await self._answer_one(reader, writer):
                pass
        except (OSError, asyncio.IncompleteReadError):
            pass  # the caller is gone, which is what this is about
        finally:
            writer.transport.abort()

    async def _answer_one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """Whether the connection is still good afterwards."""
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower()
        headers = dict(line.split(": ", 1) for line in head.split("\r\n")[1:] if line)
        call = json.loads(await reader.readexactly(int(headers["content-length"])))
        attempt = int(headers["x-crew-attempt"])
        task = call["taskId"]
        dice = Random(f"{self._seed} {task} {attempt}")
        status, answer = answer_to(call, attempt)
        fate = dice.random()
        is_lost = fate < LOST
        self._log.add(
            {
                "is": "call",
                "task": task,
                "attempt": attempt,
                "worker": call["worker"],
                "id": headers["webhook-id"],
                "parents": {p["taskId"]: _made_by(p["output"]) for p in call["parents"]},
                "early": time.time() < call["input"].get("not_before", 0),
                "status": 0 if is_lost else status,
                "error": answer.get("error"),
                "children": [child["id"] for child in answer.get("children", ())],
            }
        )
        seconds = call["input"].get("seconds", 0.0)
        if LOST <= fate < LOST + LATE:
            seconds = dice.uniform(seconds, LATE_MOST)
        if await self._hangs_up(reader, seconds, task, attempt):
            return False
        body = json.dumps(answer).encode()
        whole = b"HTTP/1.1 %d -\r\nContent-Length: %d\r\n\r\n%b" % (status, len(body), body)
        if is_lost:
            writer.write(whole[: dice.choice([0, 20, len(whole) - 1])])
            self._log.add({"is": "gone", "task": task, "attempt": attempt})
            return False
        writer.write(whole)
        await writer.drain()
        self._log.add({"is": "answer", "task": task, "attempt": attempt})
        return True

    async def _hangs_up(
        self, reader: asyncio.StreamReader, seconds: float, task: str, attempt: int
    ) -> bool:
        """Work for so long; whether the caller ended the connection meanwhile."""

        async def end() -> None:
            with contextlib.suppress(OSError):
                await reader.read(1)  # nobody sends anything before the answer
            # At once: the call that takes the slot may be there to be read already.
            self._log.add({"is": "gone", "task": task, "attempt": attempt})

        try:
            await asyncio.wait_for(end(), seconds)
        except TimeoutError:
            return False
        return True


def answer_to(call: Json, attempt: int) -> tuple[int, Json]:
    """Status and body, by the task's input alone."""
    wanted, task = call["input"], call["taskId"]
    if attempt <= wanted.get("fails", 0):
        return (
            (500, {"error": f"attempt {attempt} fails"})
            if attempt % 2
            else (
                200,
                {"error": {"attempt": attempt}},
            )
        )
    if wanted.get("hold") and attempt % 2:
        return 200, {"error": "too many calls", "workgroupDelayInSeconds": wanted["hold"]}
    output = {"task": task, "attempt": attempt, "pad": "x" * wanted.get("pad", 0)}
    answer: Json = {"output": output}
    if wanted.get("children"):
        answer["children"] = children(task, attempt, wanted)
    if wanted.get("children_delay"):
        answer["childrenDelayInSeconds"] = wanted["children_delay"]
    return 200, answer


def children(task: str, attempt: int, wanted: Json) -> list[Json]:
    """Some, and one that waits for them. Their ids name the attempt that made them."""
    inner = {"seconds": 0.1}
    if wanted["depth"] > 1:
        inner |= {"children": wanted["children"], "depth": wanted["depth"] - 1}
    common = {"worker": "child", "remainingAttempts": 200, "errorDelayInSeconds": 0}
    ids = [f"{task}.{attempt}-{i}" for i in range(wanted["children"])]
    made = [common | {"id": id_, "input": inner} for id_ in ids]
    join = {"id": f"{task}.{attempt}-join", "parentIds": ids, "input": {"seconds": 0.0}}
    return [common | join, *made]


def _made_by(output: Any) -> list[Any] | None:
    """Which task and attempt an output is of."""
    return [output.get("task"), output.get("attempt")] if isinstance(output, dict) else None


async def serve(log: Log, seed: int) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    worker = Worker(log, seed)
    server = await asyncio.start_server(worker.converse, "127.0.0.1", 0, limit=2**24, backlog=1024)
    print(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/", flush=True)
    await stop.wait()


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--log", required=True)
    parser.add_argument("--seed", type=int, required=True)
    options = parser.parse_args()
    asyncio.run(serve(Log(options.log), options.seed))
