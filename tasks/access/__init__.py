"""Says who calls and what they may do: tokens, roles, permissions.

Each face asks here and nowhere else. What a verb does, once it is allowed, is not decided here.
"""
