"""Rows go in and out: their shapes, their edges, their changes. No rules, no network."""
