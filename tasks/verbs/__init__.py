"""What people do to many tasks at once: in one transaction, or in slices when they are many.

`control` is the door to it. What happens to a task by itself is in `engine`.
"""
