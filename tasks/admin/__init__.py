"""The admin: plain lists and forms; every write is a verb of `control` or `create`.

No rule about tasks is decided here.
"""

from . import attempts, fleet, groups, history, tasks, tokens  # noqa: F401  each registers its admins
