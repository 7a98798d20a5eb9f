"""The pages as people have them: a real Chromium on a real server; no complaint is let pass."""
