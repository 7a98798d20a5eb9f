"""Back-pressure: who sends waits until the client has taken enough of what was sent."""

import asyncio
from typing import Any

from twisted.internet.interfaces import IPushProducer
from zope.interface import implementer  # type: ignore[import-untyped]

TAKEN_WITHIN = 30.0  # seconds for a client to take some of what waits for it


@implementer(IPushProducer)
class Flow:
    """Twisted calls it, when what is unsent grows above 64 KiB and when it is gone."""

    def __init__(self, transport: Any) -> None:
        self._transport = transport
        self._open = asyncio.Event()
        self._open.set()

    async def wait(self) -> None:
        """Until more may be sent. A client that takes nothing for too long is cut off."""
        if self._open.is_set():
            return
        try:
            async with asyncio.timeout(TAKEN_WITHIN):
                await self._open.wait()
        except TimeoutError:
            self._transport.abortConnection()

    def pauseProducing(self) -> None:
        self._open.clear()

    def resumeProducing(self) -> None:
        self._open.set()

    def stopProducing(self) -> None:
        self._open.set()  # the connection is gone: nobody need wait for it
