"""Figures of a federation's life: what is forgotten, tasks in sequence, models that adapt (docs/results)."""
