"""System checks: each wrong setting is named at the start, with an id and a hint.

What settings there are stands in `conf`; nothing here runs once the site is up.
"""
