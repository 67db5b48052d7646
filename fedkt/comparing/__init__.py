"""Strategies against each other: plan the runs, check them all, run what is missing, write the report."""
