"""The second table of `docs/settings.md`, made of `tasks/conf.py`.

python -m tests.settings_page        writes it into the page
"""

from typing import Any

from tasks.conf import MIB, SETTINGS, Setting

from .processes import ROOT

PAGE = ROOT / "docs/settings.md"
HEADING = "## Crew\n\n"


def table() -> str:
    rows = (
        f"| `{name}` | {default(name, each)} | {meaning(each)} |" for name, each in SETTINGS.items()
    )
    return "\n".join(["| setting | default | meaning |", "|---|---|---|", *rows, ""])


def default(name: str, setting: Setting) -> str:
    value: Any = setting.default
    if value is None or value == "" or value == []:
        return "\N{EN DASH}"
    if isinstance(value, bool):
        return "on" if value else "off"
    if name.endswith("_BYTES"):
        return f"{value // MIB} MiB" if value % MIB == 0 else f"{value:,}"
    if isinstance(value, int | float):
        return f"{value:,.10g}"
    return ", ".join(f"`{each}`" for each in ([value] if isinstance(value, str) else value))


def meaning(setting: Setting) -> str:
    return setting.words if setting.is_variable else f"{setting.words}. No variable"


def page(text: str) -> str:
    """The page with the table as it should be."""
    before, heading, _ = text.partition(HEADING)
    return before + heading + table()


if __name__ == "__main__":
    PAGE.write_text(page(PAGE.read_text()))
