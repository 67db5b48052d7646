"""The client behaviours that come with fedkt: one file each, found by name through entry points.

A behaviour may import from ``fedkt.privacy`` downwards, and no other behaviour. Begin with ``logits``.
"""
