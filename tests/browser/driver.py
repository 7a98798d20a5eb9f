"""Playwright in a thread of its own.

Its synchronous API runs an event loop in the thread of its caller, where neither Django's ORM nor
anything of asyncio works any more. Here the loop is elsewhere, and each call waits for it:

    with started() as browser:
        page = browser.new_page()          # what has a coroutine in Playwright returns its result
        expect(page.get_by_role("heading")).to_have_text("Crew")
"""

import asyncio
import inspect
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from playwright import async_api

WAITS = 10_000  # ms for each condition: this machine may do other things as well
ANSWERS = 60.0  # seconds for one call, whatever it is


class Loop:
    """The thread, and how to call into it."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()

    def call(self, function: Any, *args: Any, **kwargs: Any) -> Any:
        __tracebackhide__ = True

        async def there() -> Any:
            result = function(*args, **kwargs)
            return await result if inspect.isawaitable(result) else result

        try:
            return asyncio.run_coroutine_threadsafe(there(), self._loop).result(ANSWERS)
        except (async_api.Error, AssertionError) as error:
            raise error.with_traceback(None) from None  # Playwright's own frames say nothing

    def close(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(5)
        self._loop.close()


class Handle:
    """An object of Playwright's, to be used from any thread."""

    def __init__(self, loop: Loop, thing: Any) -> None:
        self._loop = loop
        self._thing = thing

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._thing, name)
        if not inspect.ismethod(value):
            return self._wrapped(value)

        def method(*args: Any, **kwargs: Any) -> Any:
            __tracebackhide__ = True
            named = {key: _bare(value) for key, value in kwargs.items()}
            return self._wrapped(self._loop.call(value, *map(_bare, args), **named))

        return method

    def _wrapped(self, value: Any) -> Any:
        if isinstance(value, list):
            return [self._wrapped(item) for item in value]
        ours = type(value).__module__.startswith("playwright.")
        return Handle(self._loop, value) if ours and not isinstance(value, dict) else value


def expect(handle: Handle) -> Any:
    """Playwright's assertions: they wait until they hold."""
    return Handle(handle._loop, async_api.expect(handle._thing))


@contextmanager
def started(program: str) -> Iterator[Handle]:
    """A browser, and nothing of it afterwards."""
    loop = Loop()
    async_api.expect.set_options(timeout=WAITS)
    try:
        playwright = loop.call(async_api.async_playwright().start)
        try:
            # As root, which tests in containers often are, Chromium has no sandbox to offer.
            args = ["--no-sandbox", "--disable-dev-shm-usage"]
            browser = loop.call(playwright.chromium.launch, executable_path=program, args=args)
            yield Handle(loop, browser)
            loop.call(browser.close)
        finally:
            loop.call(playwright.stop)
    finally:
        loop.close()


def _bare(value: Any) -> Any:
    return value._thing if isinstance(value, Handle) else value
