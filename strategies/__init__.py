"""The strategies that come with fedkt: one file each, found by name through entry points.

A strategy may import from ``fedkt.strategy`` downwards, and no other strategy. Begin with ``fedmd``, then
``knfu``.
"""
