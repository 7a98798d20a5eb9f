"""What people do to many tasks at once: in one transaction, or in slices when they are many."""
