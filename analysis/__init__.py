"""What the numbers say: tidy tables, statistics, verdicts, and how pictures and tables look."""
