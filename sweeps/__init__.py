"""Many runs: what an experiment asks for, and training what is missing of it."""
