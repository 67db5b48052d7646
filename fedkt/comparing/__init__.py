"""Strategies against each other: plan the runs, check them all, run what is missing, write the report.

May import from ``engine`` downwards, and nothing of ``deploy``. Begin with ``campaign``.
"""
