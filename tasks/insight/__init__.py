"""Says why a task does not run, what failed, how far a group is, how the fleet is.

For pages, API and commands alike. It only reads, and nothing that runs depends on it but in words.
"""
