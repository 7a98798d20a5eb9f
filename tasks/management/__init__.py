"""The commands of manage.py: they read what was asked, call one verb, and show what came of it.

No rule about tasks is decided here.
"""
