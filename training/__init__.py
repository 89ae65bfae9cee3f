"""One run: its config, its training loop and what it leaves on disk."""
