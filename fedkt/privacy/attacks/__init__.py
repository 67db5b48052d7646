"""Attacks on what was released, and what they prove: the bounds of an ``audit``, and label-only
``inversion``.

May import from ``models`` downwards; nothing of ``privacy`` itself, so that a mistake there is not repeated
here.
Begin with ``audit``.
"""
