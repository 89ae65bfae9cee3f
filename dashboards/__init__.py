"""The suite's results on W&B: dashboards, the archive as runs, what was logged offline. Runs need none of it."""
