"""One lease is POSTed and becomes an `Answer`: connections, deadlines, where a call may go.

What an answer means is decided in `rules/decide.py`, also of a 429. No database here.
"""
