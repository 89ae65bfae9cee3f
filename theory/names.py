"""The names that settings choose among; apart, so that `--help` and `--cfg job` answer without importing torch."""

PROBLEMS = ("quadratic", "cosines", "robust", "network")
ORACLES = ("direct", "calls", "rows")
