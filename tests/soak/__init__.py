"""Trials that take long: what happens when a part dies or hangs while many people are there. See `make soak`."""
