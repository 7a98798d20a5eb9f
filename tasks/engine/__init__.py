"""Ready tasks are claimed, delivered, settled; leases live, and those of the dead are rescued.

What an answer means is decided in `rules`, what people do is in `control` and `edit`. Never HTTP.
"""
