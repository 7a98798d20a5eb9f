"""Crew: groups of tasks, delivered to HTTP workers.

What you may import is in `docs/imports.md`: `create`, `control`, `edit`, `limits_and_holds`,
`audit`, `models`, `errors`, `conf`, `testing`, `client`, `worker`, each by its `__all__`. All
other names are private. `docs/house.md` says what happens in which room.
"""

__all__ = ["VERSION"]

VERSION = "0.1.0"
