"""Where this machine has a Chromium.

python -m tests.browser.chromium    prints its path, or fails with one sentence
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
# Where `playwright install chromium` puts its own.
DOWNLOADS = ("chrome-linux/chrome", "chrome-linux64/chrome", "chrome-mac*/*.app/Contents/MacOS/*")
REMEDY = (
    "No Chromium found for the tests in tests/browser: install one (on Debian: `apt install "
    "chromium`; elsewhere: `.venv/bin/playwright install --with-deps chromium`), or set "
    "CREW_CHROMIUM to its path."
)


class NoChromiumError(Exception):
    """There is none; the text says what to do."""


def find() -> str:
    """The path of the program; raises NoChromiumError."""
    given = os.environ.get("CREW_CHROMIUM")
    if given:
        if _runs(given):
            return given
        raise NoChromiumError(f"CREW_CHROMIUM={given} does not run.")
    candidates = (*map(shutil.which, NAMES), *_downloads())
    found = next((path for path in candidates if path and _runs(path)), None)
    if found is None:
        raise NoChromiumError(REMEDY)
    return found


def is_wanted() -> bool:
    """Whether a machine without one fails the tests, instead of skipping them."""
    return any(os.environ.get(name) for name in ("CI", "CREW_NEEDS_CHROMIUM"))


def _downloads() -> list[str]:
    cache = Path("~/Library/Caches" if sys.platform == "darwin" else "~/.cache").expanduser()
    folder = Path(os.environ.get("PLAYWRIGHT_BROWSERS_PATH") or cache / "ms-playwright")
    found = (path for place in DOWNLOADS for path in folder.glob(f"chromium-*/{place}"))
    return sorted((str(path) for path in found), reverse=True)


def _runs(program: str) -> bool:
    """Some names belong to a script that only says what to install."""
    try:
        return subprocess.run([program, "--version"], capture_output=True).returncode == 0
    except OSError:
        return False


if __name__ == "__main__":
    try:
        print(find())
    except NoChromiumError as error:
        sys.exit(str(error))
