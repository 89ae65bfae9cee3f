"""The names that settings may have, in a module of their own so that `--help` and `--cfg job` need not import torch."""

PROBLEMS = ("quadratic", "cosines", "robust", "network")
ORACLES = ("direct", "calls", "rows")
