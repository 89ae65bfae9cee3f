"""`make test-faults`: thousands of faults, each in a forked child of one warm process."""
