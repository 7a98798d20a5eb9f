"""What the rules say, as pure functions: no Django, no database, no network, no clock."""
