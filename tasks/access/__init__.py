"""Says who calls and what they may do: tokens, roles, permissions."""
