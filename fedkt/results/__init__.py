"""The run folder, and what is read and drawn from it."""
