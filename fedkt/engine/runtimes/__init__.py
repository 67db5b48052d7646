"""Flower grids over which the loop runs: ``inline``, ``resident`` (processes that keep
their clients, forked or Ray's), ``flower`` (Flower's own runtime).

May import from ``engine/loop`` downwards. ``flwr_internals`` is the one place that touches Flower's
internals.
Begin with ``inline``.
"""
