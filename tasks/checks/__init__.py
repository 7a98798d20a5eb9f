"""System checks: each wrong setting is named at the start, with a hint."""
