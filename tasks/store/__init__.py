"""Rows go in and out: their JSON shape, their edges, what a call brings, and the changes that
open pages hear of (`changes.py` writes them, `live` sends them). No rules, no network.
"""
