"""Somebody with a browser, and all that the browser complained of meanwhile."""

import json
import re
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from django.conf import settings
from django.test import Client

from .driver import WAITS, Handle

DESKTOP = {"width": 1280, "height": 900}
PHONE = {"width": 390, "height": 844}

# What must never happen becomes an error in the console, which fails the test.
TRAPS = """
addEventListener("securitypolicyviolation", ({ violatedDirective, blockedURI, sourceFile }) =>
  console.error(`CSP: ${violatedDirective} refused ${blockedURI} in ${sourceFile}`));
Object.defineProperty(window, "__xss", { set: (what) => console.error(`XSS: ${what}`) });
"""
# Chromium tells each answer of 400 and above in the console. Which of them are right is for the
# tests of the API; here those that a person runs into are errors unless `forgive` names them.
FAILED = "Failed to load resource"


class Visit:
    """One browser context with one page."""

    def __init__(self, browser: Handle, url: str, **options: Any) -> None:
        self.url = url
        self.complaints: list[str] = []
        self.asked: list[str] = []
        self.sockets: list[Any] = []
        self._forgiven: list[str] = []
        self.context = browser.new_context(**{"viewport": DESKTOP, "base_url": url} | options)
        self.context.set_default_timeout(WAITS)
        self.context.add_init_script(TRAPS)
        self.page = self.open()

    def open(self) -> Handle:
        """Another tab."""
        page = self.context.new_page()
        page.on("console", self._console)
        page.on("pageerror", lambda error: self.complaints.append(f"error in the page: {error}"))
        page.on("dialog", self._dialog)
        page.on("request", lambda request: self._request(request.url))
        page.on("websocket", self._socket)
        return page

    def log_in(self, user: Any) -> None:
        """By cookie; a test of its own uses the form."""
        client = Client()
        client.force_login(user)
        name = settings.SESSION_COOKIE_NAME
        rules = {"httpOnly": True, "sameSite": settings.SESSION_COOKIE_SAMESITE, "url": self.url}
        self.context.add_cookies([{"name": name, "value": client.cookies[name].value} | rules])

    def go(self, path: str) -> Handle:
        self.page.goto(path)
        return self.page

    def settle(self, path: str) -> Handle:
        """Go there, and wait until the page has asked for all that it shows."""
        self.page.goto("about:blank")  # else another fragment of the same page is no journey
        page = self.go(path)
        page.wait_for_load_state("networkidle")
        return page

    def forgive(self, pattern: str) -> None:
        """What fits this is meant to happen."""
        self._forgiven.append(pattern)

    def check(self) -> None:
        forgiven = re.compile("|".join(self._forgiven) or r"(?!)")
        left = [each for each in self.complaints if not forgiven.search(each)]
        if left:
            raise AssertionError("The browser complained:\n" + "\n".join(left))

    def shoot(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self.page.screenshot(path=path)

    def close(self) -> None:
        self.context.close()

    def _console(self, message: Any) -> None:
        if message.type == "error":
            self.complaints.append(f"{message.text} ({message.location.get('url', '')})")

    async def _dialog(self, dialog: Any) -> None:
        self.complaints.append(f"a dialog: {dialog.message}")
        await dialog.dismiss()

    def _socket(self, socket: Any) -> None:
        self.sockets.append(socket)
        self._request(socket.url)

    def _request(self, url: str) -> None:
        self.asked.append(url)
        there = urlsplit(url)
        if there.scheme not in ("data", "blob") and there.netloc != urlsplit(self.url).netloc:
            self.complaints.append(f"a request to {json.dumps(url)}")
