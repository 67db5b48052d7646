"""Heads that take the place of a net's own: one that is common to all clients (``frozen_head``).

May import from ``data`` downwards. Begin with ``frozen_head``.
"""
