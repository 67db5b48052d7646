"""Flower grids over which the loop runs: ``inline``, ``resident`` (Ray actors), ``flower`` (Flower's own
runtime).

May import from ``engine/loop`` downwards. ``flwr_internals`` is the one place that touches Flower's
internals.
Begin with ``inline``.
"""
