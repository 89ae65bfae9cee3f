"""Training of one run: its data, model, optimizer, loop and devices."""
