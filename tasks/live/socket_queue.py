"""One socket's queue at the stream's hub, and how much it may say: both bounded, so that who does
not read, or never stops, costs little.
"""

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator, Sequence
from contextlib import suppress

MOST_MESSAGES = 20_000  # waiting for one socket; with more it is too slow
MOST_CHARACTERS = 8 * 1024 * 1024
SENT_WITHIN = 0.25  # seconds that a commit waits for a socket to take its news

FRAMES_AT_ONCE = 100  # that a client may send, pings and fragments too
FRAMES_A_SECOND = 10.0  # on the average


class Frames:
    """How many frames one client sends: `count` is False for one too many."""

    def __init__(self) -> None:
        self._left = float(FRAMES_AT_ONCE)
        self._at = time.monotonic()

    def count(self) -> bool:
        now = time.monotonic()
        self._left = min(FRAMES_AT_ONCE, self._left + (now - self._at) * FRAMES_A_SECOND) - 1
        self._at = now
        return self._left >= 0


class Watcher:
    """One socket at the hub: what it has yet to be sent. Lives in its socket's event loop."""

    def __init__(self, group_id: str, names: frozenset[str] = frozenset()) -> None:
        self.group_id = group_id
        self.names = names  # of what it was opened with: its user, its token
        self.doubted = asyncio.Event()  # it may have ended
        self.loop = asyncio.get_running_loop()
        self.is_too_slow = False
        self.dropped = asyncio.Event()  # nothing more will come
        self._waiting: deque[str] = deque()
        self._characters = 0
        self._arrived = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()
        self._is_behind = False

    def put(self, messages: Sequence[str]) -> None:
        if self.dropped.is_set():
            return
        self._waiting.extend(messages)
        self._characters += sum(map(len, messages))
        if len(self._waiting) > MOST_MESSAGES or self._characters > MOST_CHARACTERS:
            self.is_too_slow = True
            self._waiting.clear()
            self.dropped.set()
        self._idle.clear()
        self._arrived.set()

    async def messages(self) -> AsyncIterator[str]:
        """Every message in its turn; asking for the next says that the last was sent.

        Ends when the socket is dropped.
        """
        while True:
            while self._waiting:
                text = self._waiting.popleft()
                self._characters -= len(text)
                yield text
            if self.dropped.is_set():
                return
            self._arrived.clear()
            self._is_behind = False
            self._idle.set()
            await self._arrived.wait()

    async def doubt(self, seconds: float) -> None:
        """Return when it may have ended, and after so many seconds in any case."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self.doubted.wait()
        self.doubted.clear()

    async def told(self) -> None:
        """Return when all that waits was sent; at once for a socket known not to keep up."""
        if self._is_behind:
            return
        try:
            async with asyncio.timeout(SENT_WITHIN):
                await self._idle.wait()
        except TimeoutError:
            self._is_behind = True

    def leave(self) -> None:
        """The socket is gone: nobody waits for it any more."""
        self._waiting.clear()
        self.dropped.set()
        self._idle.set()
        self._arrived.set()
