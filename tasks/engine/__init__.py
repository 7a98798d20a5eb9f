"""Ready tasks are claimed, delivered, settled; leases live and are rescued. Never HTTP."""
