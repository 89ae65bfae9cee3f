"""From results to conclusions: tidy tables, statistics, verdicts, and the look of pictures and tables."""
