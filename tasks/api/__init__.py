"""The HTTP API: the crew v1 routes to the letter, and ours beside them in the same style.

A view reads what was asked, calls one verb, and renders. No rule about tasks is decided here.
"""
