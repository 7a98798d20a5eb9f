"""Says why a task does not run, what failed, how far a group is. Reads only."""
