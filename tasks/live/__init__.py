"""Live pages are told what changed. Nothing here decides about tasks."""
