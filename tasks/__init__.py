"""Crew: groups of tasks, delivered to HTTP workers. `docs/` tells the rest."""

VERSION = "0.1.0"
