"""What the rules say, as pure functions: what an answer means, a 429 among them, what a graph or a
name may be, how slots are shared. No Django, no database, no network, no clock.
"""
