"""The suite's results on W&B: dashboards, the archive as runs, uploads of offline logs. Training does not need it."""
